//! What is counted beside drops.

macro_rules! counters {
    ($($name:ident : $doc:literal),* $(,)?) => {
        /// Counters of one shard other than drops; each counts from the dataplane's start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: u64),*
        }

        impl Counters {
            /// Name, value and meaning of each.
            pub fn list(&self) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), self.$name, $doc)),*]
            }
        }
    };
}

counters! {
    forwarded_by_session: "Packets forwarded by a session that was there.",
    forwarded_first: "Packets forwarded after rules, tables and NAT were asked.",
    forwarded_without_session: "Packets forwarded that need no translation and for which no session was to be had.",
    sessions_created: "Sessions begun.",
    sessions_expired: "Sessions ended because they were idle.",
    sessions_revoked: "Sessions ended because they would have another address, or may no longer be: the configuration or a next hop's state is new.",
    sessions_displaced: "Sessions ended, unanswered, because whoever opened them opened more than fit.",
    sessions_recovered: "Sessions taken over from an earlier dataplane.",
    sessions_refused: "Sessions of an earlier dataplane not taken over: what it left of them contradicts itself or the configuration.",
    mss_clamped: "SYNs that announced larger segments than fit, and now do not (`clamp_mss`).",
    fragments_sent: "Fragments made because a packet was larger than the egress MTU.",
    fragments_held: "Fragments that waited for the first, or for all others, of their datagram.",
    datagrams_complete: "Datagrams in fragments of which every fragment came.",
    datagrams_reassembled: "Datagrams in fragments put together, because they were for own addresses.",
    datagrams_overlapping: "Datagrams in fragments refused because fragments overlapped.",
    datagrams_timed_out: "Datagrams in fragments of which some did not come in time.",
    datagrams_displaced: "Incomplete datagrams in fragments given up for newer ones of the same sender's.",
    packets_held: "Packets that waited for a next hop's MAC.",
    packets_released: "Packets that waited and then left.",
    echo_replies: "Echo requests to own addresses answered.",
    pings_sent: "Echo requests sent, to hosts that a `probe` names as its `target`.",
    icmp_errors_sent: "ICMP errors sent.",
    icmp_errors_limited: "ICMP errors not sent because of the rate limit.",
    icmp_errors_translated: "ICMP errors about sessions forwarded.",
    bridged: "Messages passed on a segment of bridged guests: ARP, neighbour discovery, MLD, DHCP and ICMP errors.",
    bridged_to_all: "Messages of a segment's routers passed to all guests that are bridged there.",
    arp_requests_answered: "ARP requests for own addresses answered.",
    arp_requests_sent: "ARP requests sent to find or probe a neighbour.",
    neighbor_solicitations_answered: "Neighbour solicitations for own addresses answered.",
    neighbor_solicitations_sent: "Neighbour solicitations sent to find or probe a neighbour.",
    arp_announcements_sent: "ARP announcements of own and guests' addresses sent.",
    arp_probes_sent: "ARP probes sent to claim an own address (RFC 5227).",
    neighbor_announcements_sent: "Unsolicited neighbour advertisements of own and guests' addresses sent.",
    duplicate_probes_sent: "Neighbour solicitations sent to detect duplicates of own addresses (RFC 4862).",
    virtual_addresses_moved: "Virtual addresses that another guest took over.",
    address_conflicts: "Messages of others who claim an address of ours or of a guest.",
    address_defences: "Announcements sent to defend an address (RFC 5227 §2.4).",
    mld_reports_sent: "Multicast listener reports sent.",
    mld_queries_answered: "Multicast listener queries answered.",
    dhcp_offers_sent: "DHCP offers sent to guests.",
    dhcp_acks_sent: "DHCP requests of guests granted.",
    dhcp_naks_sent: "DHCP requests of guests for addresses they do not have refused.",
    dhcp_declined: "Addresses that guests declined because somebody else uses them.",
    dhcp_released: "Addresses that guests gave back.",
    dhcp6_replies_sent: "DHCPv6 messages of guests answered.",
    metadata_connections: "Connections of guests to the metadata service.",
    metadata_answers: "HTTP requests of guests to the metadata service answered with what they asked for.",
    metadata_refusals: "HTTP requests of guests to the metadata service answered with an error: malformed, of nothing that there is, or by a method that is not served.",
    metadata_timeouts: "Connections to the metadata service ended because the guest took too long.",
    router_advertisements_sent: "Router advertisements sent.",
    router_solicitations_heard: "Router solicitations that lead to an advertisement.",
}
