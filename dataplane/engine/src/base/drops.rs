//! Why frames are dropped. Every reason is a counter and carries the line an operator reads.

macro_rules! reasons {
    ($($(#[$attr:meta])* $name:ident = $text:literal : $doc:literal),* $(,)?) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum DropReason {
            $(#[doc = $doc] $name),*
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason's name as printed and as used in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What it means and what to check.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $doc),* }
            }
        }
    };
}

reasons! {
    FrameTooShort = "frame-too-short": "Fewer than 14 bytes, not an Ethernet frame. Check the sender's driver.",
    FrameTruncated = "frame-truncated": "The kernel had no room to hand over the whole frame. Receive buffers are too small for the load; see `show ports`.",
    OffloadMalformed = "offload-malformed": "The offload metadata that came with the frame cannot be read, or ask for UDP fragmentation offload. A broken or hostile sender; `ethtool -K` turns its offloads off.",
    ForgedOffload = "forged-offload": "The offload metadata that came with the frame would have a checksum stored where its TCP or UDP header has none, or the frame cut into more than 256 or too small segments. A hostile sender, or a broken driver: `ethtool -K` turns its offloads off. `show guests` counts it by port.",
    UnknownEthertype = "unknown-ethertype": "Neither ARP nor IP. Harmless (LLDP, STP); nothing to do.",
    UnknownMac = "unknown-mac": "Sent to a MAC no interface of ours wears on that port and VLAN. Harmless on a shared link; else check `show interfaces`.",
    OwnFrame = "own-frame": "Sent by one of our own MACs and seen again: a loop or a reflecting bridge port. Check the uplink's bridge.",
    GroupSource = "group-source": "The source MAC is multicast or broadcast, which no station is. A broken or hostile sender.",
    IpMalformed = "ip-malformed": "Wrong version, header length or total length (RFC 1812 §5.2.2). A broken or hostile sender.",
    IpChecksum = "ip-checksum": "Wrong IPv4 header checksum (RFC 1812 §5.2.2). Check the cabling or the sender's offload settings.",
    IpOptions = "ip-options": "Source-route options (RFC 7126 §4.3), a routing header of type 0 (RFC 5095), or an option that says it must be understood and is not (RFC 8200 §4.2).",
    TransportMalformed = "transport-malformed": "The TCP, UDP or ICMP header is cut short. A broken or hostile sender.",
    Martian = "martian": "A source or destination that must not be forwarded (RFC 1812 §5.3.7): 0/8, 127/8, 169.254/16, multicast or broadcast source.",
    Broadcast = "broadcast": "A broadcast or multicast, or a unicast packet in a broadcast frame (RFC 1812 §5.3.4): never forwarded.",
    WrongPersonality = "wrong-personality": "Addressed to one personality's MAC but another's address, or a public address of another's guest; or to a bridged guest's MAC but an address that it does not have. The provider's ARP table may be stale, or somebody on the uplink tries MACs.",
    InsideSource = "inside-source": "From an uplink, with a source address that is our own, a guest's or in a network's prefix: forged by somebody on that link (RFC 2827), or the provider sends our own packets back.",
    InsideDestination = "inside-destination": "From an uplink to an address that exists only inside: a guest's that is not `public`, or one in a network's prefix. Forward a port, or give the guest a public address in [guests].",
    WrongInterface = "wrong-interface": "A packet of a session, or an echo request, that came in by another interface than its answers leave by: a forged source address, or asymmetric routing around us.",
    TtlExceeded = "ttl-exceeded": "TTL used up on the way (RFC 1812 §5.3.1); traceroute does that. Else look for a routing loop.",
    NoRoute = "no-route": "No rule leads to a route for the destination. Check `tapgate explain` and `show rules`.",
    Blackhole = "blackhole": "A blackhole rule or route matched.",
    Unreachable = "unreachable": "An unreachable rule or route matched.",
    Policy = "policy": "A rule of `policy` does not let it pass; `tapgate explain` says which.",
    PolicyRate = "policy-rate": "A rule of `policy` lets so many flows a second through (`rate`), and this was one more. `show guests` tells whose; `tapgate explain` which rule.",
    PolicyConnections = "policy-connections": "A rule of `policy` lets so many sessions of one guest, or of one address outside, through at a time (`connections`), and this was one more. `show guests` tells whose; `tapgate explain` which rule.",
    OtherNetwork = "other-network": "From one network to an inside address of another. Join them by a rule of `policy`, or use a public address.",
    Prohibited = "prohibited": "A prohibit rule or route matched.",
    FragmentationNeeded = "fragmentation-needed": "Larger than the egress MTU with DF set; the sender was told (RFC 1191 §4).",
    TooLarge = "too-large": "A frame of a bridged guest, or for one, whose packet is larger than the MTU of the segment. Nobody is told, as on any switch: all on a segment must have one MTU.",
    MergedDatagram = "merged-datagram": "A merged datagram that must be cut but does not say how. Turn off UDP GRO on the sender's device.",
    FragmentUntranslatable = "fragment-untranslatable": "A fragment that cannot follow its datagram's first: the session is over, or it is an ICMP error, which nobody sends in fragments.",
    FragmentMalformed = "fragment-malformed": "A fragment that is empty, ends within a unit of 8 bytes, lies within another, or ends beyond the 65,535 bytes of a packet. A broken or hostile sender.",
    FragmentTiny = "fragment-tiny": "A first fragment without all of its TCP, UDP or ICMP header, or one that would overwrite that header (RFC 1858, RFC 3128, RFC 7112). A hostile sender.",
    FragmentOverlap = "fragment-overlap": "A fragment that overlaps another of its datagram, or one of such a datagram: none of it passes any more (RFC 5722). A hostile sender, or one that uses an identification again too soon (RFC 4963).",
    FragmentDuplicate = "fragment-duplicate": "A fragment that came before. The network doubled it.",
    FragmentNoRoom = "fragment-no-room": "Too many fragments or incomplete datagrams of one guest, or of strangers on an uplink, or one of more than 128 fragments. The oldest datagram of the same made room. `show guests` tells who.",
    FragmentTimeout = "fragment-timeout": "A fragment that waited in vain for the first of its datagram (15 s), or for the others of a datagram for the router itself (60 s). Fragments are lost on the way, or somebody sends incomplete datagrams.",
    NatUnsupported = "nat-unsupported": "An ICMP message other than echo matches an SNAT rule; it cannot be translated and never leaves untranslated.",
    NatAmbiguous = "nat-ambiguous": "Another guest talks to the same host by this protocol, which has no ports to tell their answers apart. Give one of them an address of its own: `nat.one_to_one`.",
    NatExhausted = "nat-exhausted": "No free external port for this flow. Widen `ports`, or add an address.",
    NoSession = "no-session": "From outside to an address of ours, and no session expects it. Unsolicited traffic; normal on the internet.",
    SessionTableFull = "session-table-full": "The session table is full. Raise `[router] sessions`, or look for a scan with `show sessions`.",
    GuestSessions = "guest-sessions": "A guest, or a port's guests together, have as many sessions as they may (`limits`, or half of what is free), and none that was not answered. Their other packets still pass, and so do other guests'. `show guests` tells who.",
    GuestSessionRate = "guest-session-rate": "A guest opened more sessions in a second than `limits` allows. Raise `new_sessions_per_second`, or look at the guest.",
    GuestUnansweredSyns = "guest-unanswered-syns": "A guest opened more TCP connections that did not come about than `unanswered_syns` of `limits` allows: it scans or floods somebody, or whom it talks to is down. Established connections go on. Raise it, or look at the guest.",
    GuestDestinations = "guest-destinations": "A guest sent to more addresses in a second than `new_destinations_per_second` of `limits` allows: it scans, or has much to do. Flows that run go on. Raise it, or look at the guest.",
    GuestBandwidth = "guest-bandwidth": "Beyond the `bandwidth` of the guest that it is from or to; TCP slows down by it. `show guests` tells whose.",
    GuestPorts = "guest-ports": "A guest holds as many external ports of one address as it may (`limits`, or half of what is free); the sender was told (RFC 6888 REQ-4). `show guests` tells who.",
    PortUnreachable = "port-unreachable": "For the router itself, where nothing listens.",
    IcmpUnmatched = "icmp-unmatched": "An ICMP error about a flow we do not know, or one that does not match it (RFC 5508 REQ-4).",
    IcmpMalformed = "icmp-malformed": "An ICMP message with a wrong checksum, or too short to mean anything.",
    IcmpIgnored = "icmp-ignored": "An ICMP message to the router itself that needs no answer.",
    EgressGuard = "egress-guard": "Would have left an uplink with a source MAC, VLAN or address that is not the personality's own, or not a bridged guest's. Often a missing SNAT rule; check `tapgate explain`.",
    PortDown = "port-down": "The egress port's device is missing or down. Check `show ports`.",
    TransmitFailed = "transmit-failed": "The kernel refused the frame on the egress port (queue full, device gone).",
    NeighborUnresolved = "neighbor-unresolved": "The next hop does not answer ARP. Check `show neighbors` and that the host is up.",
    NeighborTableFull = "neighbor-table-full": "No room to resolve another next hop. Raise `[router] neighbors`, or look for a scan.",
    HoldQueueFull = "hold-queue-full": "Too many packets waited for a next hop; the oldest went.",
    ArpMalformed = "arp-malformed": "Not an Ethernet/IPv4 ARP packet (RFC 826), or cut short.",
    ArpSenderMismatch = "arp-sender-mismatch": "The ARP sender's MAC is not the frame's source, or is not one station's. A hostile or broken sender.",
    ArpSenderIsUs = "arp-sender-is-us": "Somebody else claims an address of ours. Find it by the MAC in the log: two hosts have the same address.",
    ArpNotForUs = "arp-not-for-us": "An ARP request for an address that is not ours. Normal on a shared link.",
    NdMalformed = "nd-malformed": "A neighbour-discovery message that fails the checks of RFC 4861 (hop limit 255, checksum, lengths), or came as a fragment (RFC 6980). A broken or hostile sender.",
    NdSenderIsUs = "nd-sender-is-us": "Somebody else claims an IPv6 address of ours. Find it by its MAC: two hosts have the same address.",
    NdNotForUs = "nd-not-for-us": "A neighbour solicitation for an address that is not ours. Normal on a shared link.",
    NdUnsolicited = "nd-unsolicited": "A neighbour advertisement nobody here asked for and nobody here needs.",
    NdIgnored = "nd-ignored": "A router advertisement or redirect, by whose word we do not route; or a router solicitation where the network has no `ra`.",
    AddressTentative = "address-tentative": "For an own address that is still being claimed, or that somebody else has. `show interfaces` tells which.",
    SamePort = "same-port": "The destination is on the port the packet came from, where nobody owns it; the sender was told (RFC 4443 §3.1). Check the guest's prefix length and [guests].",
    SpoofedMac = "spoofed-mac": "A guest's port sent from a MAC that none of its guests has. Check the guest's `mac` in [guests]; `show guests` counts it by port.",
    SpoofedSource = "spoofed-source": "A guest's packet has a source address it does not own (RFC 2827). Check `addresses` and `public` in [guests], or the port's `source`; `show guests` counts it by port.",
    SpoofedArp = "spoofed-arp": "A guest's ARP message says that an address it does not own is its own. `show guests` counts it by port.",
    SpoofedAdvertisement = "spoofed-advertisement": "A guest's neighbour advertisement is about an address it does not own. `show guests` counts it by port.",
    TakenOverTooOften = "taken-over-too-often": "A guest announces a virtual address that another has, and has taken over so many lately that it must wait: one turn in 5 s. Two guests that both believe to be the master do this; look at their VRRP.",
    GatewayClaimed = "gateway-claimed": "A guest says that an address of its network's gateway is its own, or probes for it. It is told whose it is, and the gateway keeps it (RFC 4862 §5.4.5 would have it yield). `show guests` counts it by port.",
    RogueServer = "rogue-server": "A guest sent what only DHCP servers and routers say. `show guests` counts it by port.",
    LeftToHost = "left-to-host": "For the host's own kernel, which shares this MAC and address. Normal where a personality is `shared`.",
    AskedByOwner = "asked-by-owner": "A guest asks for, or probes, an address that is its own: never answered, or it would find it taken.",
    AnswerLimited = "answer-limited": "A guest's port asked more than `[router] answers_per_second`, or again who listens (MLD) while it was being told, which takes a second; or more than 4096 answers waited for their time (`proxy_delay`).",
    MldMalformed = "mld-malformed": "A multicast listener query that fails the checks of RFC 3810 (link-local source, hop limit 1, checksum). A broken or hostile sender.",
    ServiceNotOffered = "service-not-offered": "A guest asked for DHCP or DHCPv6 where there is none for it. Give its network `dhcp` or `dhcp6`, and the guest an address in [guests].",
    NotTheGuest = "not-the-guest": "A DHCP request, or one for metadata, of somebody who is no guest of that port. Check `port`, `mac` and addresses in [guests]; a guest without `mac` must be the only one on its port.",
    MetadataLimited = "metadata-limited": "A guest has four connections to the metadata service, opened more than 200 in a second, or sent it more than 4000 segments in a second; or all guests together have 512. It tries again by itself; others are not concerned. Look at the guest.",
    MetadataMalformed = "metadata-malformed": "A segment to the metadata service with a wrong checksum. A broken or hostile sender.",
    AddressDeclined = "address-declined": "A guest's address is not offered for 30 s, because the guest found that somebody else uses it. Look for another host with that address.",
    DhcpMalformed = "dhcp-malformed": "A DHCP or DHCPv6 message that is cut short, has a wrong checksum or says what makes no sense. A broken or hostile sender.",
    DhcpIgnored = "dhcp-ignored": "A DHCP or DHCPv6 message that needs no answer of ours, such as one to another server (RFC 2131 §4.3.2, RFC 8415 §16).",
    ArpUnsolicited = "arp-unsolicited": "An ARP announcement from a host we have no entry for (RFC 826): not believed, not needed.",
}

impl DropReason {
    /// Whether it says that a guest sent what it may not: counted for its port as well.
    pub const fn is_violation(self) -> bool {
        matches!(
            self,
            Self::SpoofedMac
                | Self::SpoofedSource
                | Self::SpoofedArp
                | Self::SpoofedAdvertisement
                | Self::GatewayClaimed
                | Self::RogueServer
                | Self::ForgedOffload
        )
    }
}

/// One counter per [`DropReason`].
#[derive(Debug, Clone)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts `n` frames dropped for `reason`.
    pub fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// How many frames were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.get(reason)))
    }
}
