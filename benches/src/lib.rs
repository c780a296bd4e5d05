//! A router in memory under load, shared by the benches of `tapgate_engine::process`.
//!
//! The configuration is the one of `examples/multi-mac.toml` made large: one network with
//! [`GUESTS`] guests, two behind each of [`PERSONALITIES`] public addresses, with a rule and a
//! table each. Both guests of a pair use the same source ports, so that half of the translations
//! find their port taken.

pub mod tool;

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};
use tapgate_engine::Engine;
use tapgate_engine::addr::PortId;
use tapgate_engine::checksum;
use tapgate_engine::config::Config;
use tapgate_engine::frame::{Checksum, Frame, Gso, GsoKind, Offload, Verdict};
use tapgate_engine::session::{SessionMemory, Sessions};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

/// Guests behind the router.
pub const GUESTS: u32 = 2 * PERSONALITIES;
/// Public addresses, each with its MAC, table and rule.
pub const PERSONALITIES: u32 = 20;
/// Frames the worker takes at once.
pub const BATCH: usize = 64;
/// External ports in use when a router has as many flows or more: 40,000 of each address.
pub const MAPPINGS: u32 = 20_000 * GUESTS;
/// New flows there are beside them: 13,000 external ports of each address.
pub const NEW_FLOWS: u32 = 1 << 18;
/// Length of the UDP frames.
pub const UDP_FRAME: usize = 60;
/// Length of the frames of [`write_udp6`].
pub const UDP6_FRAME: usize = 14 + 40 + 8;
/// Length of the frames of [`write_tcp`]: 45 segments of 1,448 bytes.
pub const TCP_SUPER_FRAME: usize = 66 + 45 * 1448;

const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0xfe];
const GUEST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x02, 0x01];
const PROVIDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x03, 0x01];
const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);

/// A router whose next hops are resolved.
pub struct Router {
    /// Its configuration.
    pub snapshot: Snapshot,
    /// Its state.
    pub engine: Engine,
    /// The time it is there.
    pub now: Instant,
    guests: PortId,
    uplink: PortId,
}

impl Router {
    /// A router with room for `sessions` of IPv4, and next to none of IPv6. Panics if the
    /// configuration is refused.
    pub fn new(sessions: u32) -> Self {
        Self::with(configuration(sessions), (sessions, 64))
    }

    /// A router of one guest's IPv6 prefix with room for `sessions` of IPv6, and next to none of
    /// IPv4. Panics if the configuration is refused.
    pub fn ipv6(sessions: u32) -> Self {
        Self::with(configuration6(sessions), (64, sessions))
    }

    /// The same as [`Self::new`] with a policy of so many rules, of which each matches a flow in two
    /// respects and not in a third, but for the last, which accepts it.
    pub fn with_rules(sessions: u32, rules: u32) -> Self {
        Self::with_policy(sessions, rules, json!({}))
    }

    /// The same as [`Self::new`] with a rule that lets flows through and counts them.
    pub fn counting(sessions: u32) -> Self {
        Self::with_policy(sessions, 1, json!({ "connections": sessions }))
    }

    /// The same as [`Self::new`] with endpoint-dependent mappings.
    pub fn endpoint_dependent(sessions: u32) -> Self {
        let mut configuration = configuration(sessions);
        let entries = configuration["nat"]["snat"].as_array_mut();
        for entry in entries.expect("there are entries") {
            entry["mapping"] = json!("endpoint-dependent");
        }
        Self::with(configuration, (sessions, 64))
    }

    fn with_policy(sessions: u32, rules: u32, limits: Value) -> Self {
        let mut configuration = configuration(sessions);
        let rule = |n: u32| {
            let (near, far) = ("10.0.0.0/16", format!("{REMOTE}/32"));
            let elsewhere = format!("100.{}.{}.{}/32", 64 + n / 65_536, n / 256 % 256, n % 256);
            let (source, destination, port) = match n % 3 {
                0 => (elsewhere.as_str(), far.as_str(), 443),
                1 => (near, elsewhere.as_str(), 443),
                _ => (near, far.as_str(), 1_000 + n % 60_000),
            };
            json!({ "action": "drop", "proto": "udp", "source": source,
                "destination": destination, "port": port })
        };
        let mut all: Vec<Value> = (1..rules).map(rule).collect();
        let mut last = limits;
        last["action"] = json!("accept");
        last["from"] = json!("guests");
        all.push(last);
        configuration["policy"] = json!({ "rules": all });
        Self::with(configuration, (sessions, 64))
    }

    fn with(configuration: Value, (v4, v6): (u32, u32)) -> Self {
        let config: Config =
            serde_json::from_value(configuration).expect("the configuration is right");
        let snapshot = Snapshot::build(&config, None);
        let now = Instant::from_millis(1_000_000);
        let memory = Sessions {
            v4: SessionMemory::owned(v4 as usize),
            v6: SessionMemory::owned(v6 as usize),
            // So that its own addresses need not pass duplicate detection first.
            inherited: true,
        };
        let engine = Engine::new(&snapshot, memory, 0x5eed, now);
        let port = |name| snapshot.port_id(name).expect("the port is configured");
        let mut router = Self {
            guests: port("guests"),
            uplink: port("uplink"),
            snapshot,
            engine,
            now,
        };
        router.discard_outbox();
        router
    }

    /// Opens flows `0..flows` (see [`write_udp`]).
    pub fn open(&mut self, flows: u32) {
        self.open_with(flows, &mut [0; UDP_FRAME], write_udp);
    }

    /// Opens flows `0..flows` (see [`write_udp6`]).
    pub fn open6(&mut self, flows: u32) {
        self.open_with(flows, &mut [0; UDP6_FRAME], write_udp6);
    }

    fn open_with(&mut self, flows: u32, bytes: &mut [u8], write: fn(&mut [u8], u32)) {
        for flow in 0..flows {
            write(bytes, flow);
            let mut verdict = self.from_guest(bytes);
            if verdict == Verdict::Hold {
                self.resolve_next_hops();
                write(bytes, flow);
                verdict = self.from_guest(bytes);
            }
            assert_eq!(verdict, Verdict::Emit(self.uplink), "flow {flow}");
        }
    }

    /// Routes a frame that a guest sent.
    #[inline]
    pub fn from_guest(&mut self, bytes: &mut [u8]) -> Verdict {
        self.process(bytes, Offload::default(), self.guests)
    }

    /// Routes a frame that the provider sent.
    #[inline]
    pub fn from_provider(&mut self, bytes: &mut [u8]) -> Verdict {
        self.process(bytes, Offload::default(), self.uplink)
    }

    /// The connection of [`write_tcp`] is established: each end has said something.
    pub fn open_bulk(&mut self) {
        let mut bytes = [0; 66];
        write_tcp(&mut bytes);
        self.from_guest(&mut bytes);
        turn_around(&mut bytes);
        self.from_provider(&mut bytes.clone());
        self.resolve_next_hops();
        let verdict = self.from_provider(&mut bytes);
        assert_eq!(verdict, Verdict::Emit(self.guests), "the answer passes");
    }

    /// Routes a TCP super-frame that a guest sent (see [`write_tcp`]).
    #[inline]
    pub fn bulk_from_guest(&mut self, bytes: &mut [u8]) -> Verdict {
        let offload = Offload {
            checksum: Checksum::Partial {
                start: 34,
                offset: 16,
            },
            gso: Some(Gso {
                kind: GsoKind::Tcp4,
                size: 1448,
                ecn: false,
            }),
        };
        self.process(bytes, offload, self.guests)
    }

    /// Whether the frame goes out to the provider.
    pub fn leaves(&self, verdict: Verdict) -> bool {
        verdict == Verdict::Emit(self.uplink)
    }

    /// Whether the frame goes to the guests.
    pub fn enters(&self, verdict: Verdict) -> bool {
        verdict == Verdict::Emit(self.guests)
    }

    /// Answers the requests for MACs that wait in the outbox, and discards what else is there.
    pub fn resolve_next_hops(&mut self) {
        let mut replies = Vec::new();
        self.engine.drain(&self.snapshot, self.now, |port, frame| {
            let mac = match port == self.uplink {
                true => PROVIDER_MAC,
                false => GUEST_MAC,
            };
            let bytes = &*frame.bytes;
            let reply = match bytes[12..14] {
                [0x08, 0x06] if bytes[20..22] == [0, 1] => arp_reply(bytes, mac),
                [0x86, 0xdd] if bytes[54] == 135 => advertisement(bytes, mac),
                _ => return,
            };
            replies.push((port, reply));
        });
        for (port, mut reply) in replies {
            self.process(&mut reply, Offload::default(), port);
        }
        self.discard_outbox();
    }

    /// Empties the outbox.
    pub fn discard_outbox(&mut self) {
        self.engine.drain(&self.snapshot, self.now, |_, _| {});
    }

    #[inline]
    fn process(&mut self, bytes: &mut [u8], offload: Offload, ingress: PortId) -> Verdict {
        let mut frame = Frame {
            bytes,
            vlan: None,
            offload,
            headroom: &mut [],
        };
        self.engine
            .process(&mut frame, ingress, &self.snapshot, self.now)
    }
}

/// Writes the frame of a guest's flow number `flow`: guest and source port go round, so that neighbouring
/// numbers are different guests. Each of the first [`MAPPINGS`] has an external port of its own; after
/// them each guest uses the same ports towards another address, and so the same external ports.
pub fn write_udp(bytes: &mut [u8], flow: u32) {
    let (turn, place) = (flow / MAPPINGS, flow % MAPPINGS);
    let remote = Ipv4Addr::from_bits(REMOTE.to_bits() + turn);
    let port = 10_000 + (place / GUESTS) as u16;
    write_datagram(bytes, (guest(place), port), remote);
}

/// Writes the frame of a flow that [`write_udp`] does not write, and that has an external port of its own.
/// `flow` is below [`NEW_FLOWS`].
pub fn write_new_udp(bytes: &mut [u8], flow: u32) {
    let port = 10_000 + (MAPPINGS / GUESTS + flow / GUESTS) as u16;
    write_datagram(bytes, (guest(flow), port), REMOTE);
}

/// Writes the frame of flow number `flow` of the IPv6 guest, below 1,600,000; its source addresses
/// go round like the guests of [`write_udp`].
pub fn write_udp6(bytes: &mut [u8], flow: u32) {
    let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1 + (flow % GUESTS) as u16);
    bytes[0..6].copy_from_slice(&GATEWAY_MAC);
    bytes[6..12].copy_from_slice(&GUEST_MAC);
    bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
    bytes[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 64]);
    bytes[22..38].copy_from_slice(&source.octets());
    bytes[38..54].copy_from_slice(&REMOTE6.octets());
    bytes[54..56].copy_from_slice(&(10_000 + (flow / GUESTS) as u16).to_be_bytes());
    bytes[56..58].copy_from_slice(&443u16.to_be_bytes());
    // Any checksum but none will do.
    bytes[58..62].copy_from_slice(&[0, 8, 0x12, 0x34]);
}

/// Writes a frame whose source no rule knows and that nothing in `main` leads out.
pub fn write_without_route(bytes: &mut [u8]) {
    write_datagram(bytes, (Ipv4Addr::new(10, 0, 200, 1), 10_000), REMOTE);
}

/// Writes a frame that has a route to the uplink but no translation, so that the egress guard
/// must stop it.
pub fn write_without_translation(bytes: &mut [u8]) {
    write_datagram(bytes, (Ipv4Addr::new(10, 0, 201, 1), 10_000), REMOTE);
}

/// Writes a frame with a wrong IPv4 header checksum.
pub fn write_malformed(bytes: &mut [u8]) {
    write_udp(bytes, 0);
    bytes[24] ^= 0xff;
}

/// Writes the headers of guest 0's TCP super-frame, 66 bytes, into a buffer of its whole length.
pub fn write_tcp(bytes: &mut [u8]) {
    let length = (bytes.len() - 14) as u16;
    write_headers(bytes, (Ipv4Addr::new(10, 0, 0, 1), REMOTE), 6, length);
    bytes[34..36].copy_from_slice(&40_000u16.to_be_bytes());
    bytes[36..38].copy_from_slice(&443u16.to_be_bytes());
    bytes[46] = 8 << 4; // 32 bytes of header
    bytes[47] = 0x10; // ACK
}

fn guest(flow: u32) -> Ipv4Addr {
    let guest = flow % GUESTS;
    Ipv4Addr::new(10, 0, (guest / 2) as u8, 1 + (guest % 2) as u8)
}

fn write_datagram(bytes: &mut [u8], (source, port): (Ipv4Addr, u16), remote: Ipv4Addr) {
    let length = (UDP_FRAME - 14) as u16;
    write_headers(bytes, (source, remote), 17, length);
    bytes[34..36].copy_from_slice(&port.to_be_bytes());
    bytes[36..38].copy_from_slice(&443u16.to_be_bytes());
    bytes[38..40].copy_from_slice(&(length - 20).to_be_bytes());
    // Any checksum but none will do: the router updates it and does not verify it.
    bytes[40..42].copy_from_slice(&[0x12, 0x34]);
}

fn write_headers(
    bytes: &mut [u8],
    (source, remote): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    length: u16,
) {
    bytes[0..6].copy_from_slice(&GATEWAY_MAC);
    bytes[6..12].copy_from_slice(&GUEST_MAC);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    let [high, low] = length.to_be_bytes();
    bytes[14..26].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    bytes[26..30].copy_from_slice(&source.octets());
    bytes[30..34].copy_from_slice(&remote.octets());
    let mut sum: u32 = bytes[14..34]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Turns a frame that left into the provider's answer to it.
pub fn turn_around(bytes: &mut [u8]) {
    let swap = |bytes: &mut [u8], at: usize, length: usize| {
        let (left, right) = bytes[at..at + 2 * length].split_at_mut(length);
        left.swap_with_slice(right);
    };
    swap(bytes, 0, 6);
    swap(bytes, 26, 4);
    swap(bytes, 34, 2);
}

/// The answer to an ARP request (RFC 826).
fn arp_reply(request: &[u8], mac: [u8; 6]) -> Vec<u8> {
    let mut reply = request[..42].to_vec();
    reply[0..6].copy_from_slice(&request[6..12]);
    reply[6..12].copy_from_slice(&mac);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&mac);
    reply[28..32].copy_from_slice(&request[38..42]);
    reply[32..42].copy_from_slice(&request[22..32]);
    reply
}

/// The answer to a neighbour solicitation (RFC 4861 §4.4): solicited, overriding.
fn advertisement(solicitation: &[u8], mac: [u8; 6]) -> Vec<u8> {
    let target = &solicitation[62..78];
    let asker = &solicitation[22..38];
    let mut message = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], target, &[2, 1], &mac].concat();
    let pseudo = checksum::pseudo_header(target, asker, 58, message.len());
    let sum = !checksum::fold(checksum::sum(&message, pseudo));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    let ethernet = [&solicitation[6..12], &mac, &[0x86, 0xdd]].concat();
    [&ethernet, &ip[..], target, asker, &message].concat()
}

/// `[router]`: the only guest may use all there is.
fn router(sessions: u32) -> Value {
    json!({
        "sessions": sessions,
        "limits": {
            "sessions": sessions,
            "new_sessions_per_second": 1_000_000_000,
            "unanswered_syns": 1_000_000_000,
            "new_destinations_per_second": 1_000_000_000,
            "ports": 65_536,
        },
    })
}

fn configuration6(sessions: u32) -> Value {
    json!({
        "router": router(sessions),
        "ports": { "uplink": { "memory": true }, "guests": { "memory": true } },
        "personalities": { "P": { "port": "uplink", "mac": "02:00:00:00:aa:00",
            "addresses": ["2001:db8::1/64"], "gateway": "2001:db8::fe" } },
        "networks": { "guests": { "ports": ["guests"], "addresses": ["10.0.255.254/16"],
            "mac": "02:00:00:00:01:fe" } },
        "guests": { "guest": { "port": "guests", "mac": "02:00:00:00:02:01",
            "public": ["2001:db8:0:1::/64"] } },
        "tables": { "main": [{ "to": "::/0", "dev": "P" }] },
    })
}

fn configuration(sessions: u32) -> Value {
    let (mut personalities, mut tables) = (Map::new(), Map::new());
    let (mut rules, mut snat) = (Vec::new(), Vec::new());
    for n in 0..PERSONALITIES {
        let (name, public) = (format!("P{n}"), format!("203.0.113.{}", 10 + n));
        let (table, subnet) = (format!("ip{n}"), format!("10.0.{n}.0/24"));
        personalities.insert(
            name.clone(),
            json!({ "port": "uplink", "mac": format!("02:00:00:00:aa:{n:02x}"),
                "addresses": [format!("{public}/32")], "gateway": "192.0.2.1", "onlink": true }),
        );
        tables.insert(table.clone(), json!([{ "to": "default", "dev": name }]));
        rules.push(json!({ "priority": 60_000 + n, "from": subnet, "lookup": table }));
        snat.push(json!({ "from": subnet, "to": public }));
    }
    rules.push(json!({ "priority": 60_100, "from": "10.0.201.0/24", "lookup": "ip0" }));
    json!({
        "router": router(sessions),
        "ports": { "uplink": { "memory": true }, "guests": { "memory": true } },
        "personalities": personalities,
        "networks": { "guests": { "ports": ["guests"], "addresses": ["10.0.255.254/16"],
            "mac": "02:00:00:00:01:fe" } },
        "tables": tables,
        "routing": { "rules": rules },
        "nat": { "snat": snat },
    })
}

/// The next of a row of random numbers (an LCG of period 2^64, upper half).
pub fn random(state: &mut u64) -> u32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) as u32
}
