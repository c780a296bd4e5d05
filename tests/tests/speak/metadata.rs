//! The metadata service: what a guest is told of itself, and what hostile ones can do to it.

use tapgate_engine::addr::MacAddr;
use tapgate_tests::router::Router;
use tapgate_tests::stack::Stack;

mod hostile;

const V4: &str = "169.254.169.254";
const V6: &str = "fe80::a9fe:a9fe";
const WEB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const DB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGuestsOwnKey operator@example.net";
const ALL: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEverybodysKey";

/// A network with metadata, one guest that has much to be told and one that has nothing, and a network
/// without.
fn file() -> String {
    format!(
        r##"
[ports]
uplink = {{ memory = true }}
web = {{ memory = true }}
db = {{ memory = true }}
other = {{ memory = true }}

[personalities]
A = {{ port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24", "203.0.113.11/24"], gateway = "203.0.113.1" }}

[networks.lan]
ports = ["web", "db"]
addresses = ["10.0.1.254/24"]
dhcp = {{ domain = "example.net" }}
metadata = {{ ssh_keys = ["{ALL}"] }}

[networks.other]
ports = ["other"]
addresses = ["10.0.2.254/24"]

[guests.web]
port = "web"
mac = "{WEB}"
addresses = ["10.0.1.1"]
ssh_keys = ["{KEY}"]
user_data = {{ text = "#cloud-config\nhostname: of the web\n" }}

[guests.db]
port = "db"
addresses = ["10.0.1.2"]
hostname = "data"
instance_id = "i-0123"

[guests.other]
port = "other"
addresses = ["10.0.2.1"]

[nat]
one_to_one = [{{ inside = "10.0.1.1", outside = "203.0.113.11" }}]
"##
    )
}

fn router() -> Router {
    Router::settled(&file())
}

fn web() -> Stack {
    Stack::new("web", WEB, &["10.0.1.1/24", "fe80::1:1/64"], "10.0.1.254")
}

fn db() -> Stack {
    Stack::new("db", DB, &["10.0.1.2/24", "fe80::1:2/64"], "10.0.1.254")
}

/// What is at a path, which must be there.
fn content(guest: &mut Stack, router: &mut Router, path: &str) -> String {
    let (status, content) = guest.get(router, V4, path);
    assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
    content
}

#[test]
fn a_guest_is_told_who_it_is_as_on_ec2() {
    let (mut router, mut web) = (router(), web());
    for version in ["latest", "2009-04-04", "2021-03-23", "1.0"] {
        let user_data = content(&mut web, &mut router, &format!("/{version}/user-data"));
        assert_eq!(
            user_data, "#cloud-config\nhostname: of the web\n",
            "{version}"
        );
    }
    let list = content(&mut web, &mut router, "/latest/meta-data/");
    let names =
        "hostname instance-id local-hostname local-ipv4 mac network/ public-ipv4 public-keys/";
    assert_eq!(list.replace('\n', " "), names);
    for (path, told) in [
        ("hostname", "web.example.net"),
        ("local-hostname", "web.example.net"),
        ("instance-id", "i-web"),
        ("local-ipv4", "10.0.1.1"),
        ("public-ipv4", "203.0.113.11"),
        ("mac", "52:54:00:00:00:01"),
        ("public-keys/", "0=key-0\n1=key-1"),
        ("public-keys/0", "openssh-key"),
        ("public-keys/0/openssh-key", KEY),
        ("public-keys/1/openssh-key", ALL),
        ("network/interfaces/macs/", "52:54:00:00:00:01/"),
        (
            "network/interfaces/macs/52:54:00:00:00:01/local-ipv4s",
            "10.0.1.1",
        ),
    ] {
        let path = format!("/latest/meta-data/{path}");
        assert_eq!(content(&mut web, &mut router, &path), told, "{path}");
    }
    let document = "/latest/dynamic/instance-identity/document";
    let told = r#"{ "instanceId": "i-web", "privateIp": "10.0.1.1" }"#;
    assert_eq!(content(&mut web, &mut router, document), told);
    assert_eq!(
        router.dropped(tapgate_engine::drops::DropReason::MetadataLimited),
        0
    );
}

#[test]
fn two_guests_of_a_network_are_told_of_themselves_alone() {
    let (mut router, mut web, mut db) = (router(), web(), db());
    let id = "/latest/meta-data/instance-id";
    assert_eq!(content(&mut web, &mut router, id), "i-web");
    assert_eq!(content(&mut db, &mut router, id), "i-0123");
    assert_eq!(
        content(&mut db, &mut router, "/latest/meta-data/hostname"),
        "data.example.net"
    );
    let (status, _) = db.get(&mut router, V4, "/latest/user-data");
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    let keys = content(
        &mut db,
        &mut router,
        "/latest/meta-data/public-keys/0/openssh-key",
    );
    assert_eq!(keys, ALL, "its network's");
}

#[test]
fn a_guest_is_told_by_ipv6_as_well_before_it_has_an_address() {
    let (mut router, mut web, mut db) = (router(), web(), db());
    for (guest, told) in [(&mut web, "i-web"), (&mut db, "i-0123")] {
        let (_, id) = guest.get(&mut router, V6, "/latest/meta-data/instance-id");
        assert_eq!(id, told);
    }
}

#[test]
fn nocloud_has_its_seed() {
    let (mut router, mut web, mut db) = (router(), web(), db());
    let meta = content(&mut web, &mut router, "/nocloud/meta-data");
    let told = format!(
        "instance-id: \"i-web\"\nlocal-hostname: \"web.example.net\"\npublic-keys:\n- \"{KEY}\"\n- \"{ALL}\"\n"
    );
    assert_eq!(meta, told);
    let user = content(&mut web, &mut router, "/nocloud/user-data");
    assert_eq!(user, "#cloud-config\nhostname: of the web\n");
    let network = content(&mut web, &mut router, "/nocloud/network-config");
    assert!(
        network.contains("macaddress: \"52:54:00:00:00:01\"") && network.contains("dhcp4: true")
    );
    assert_eq!(
        content(&mut db, &mut router, "/nocloud/user-data"),
        "",
        "it must be there"
    );
    assert_eq!(content(&mut db, &mut router, "/nocloud/vendor-data"), "");
}

#[test]
fn what_is_not_served_is_refused_in_http() {
    let (mut router, mut web) = (router(), web());
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(5_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(99));
    let token = "X-aws-ec2-metadata-token-ttl-seconds";
    for (request, status) in [
        ("GET /latest/meta-data/nothing HTTP/1.1\r\n\r\n", "404"),
        ("GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        ("GET /2009-4-4/user-data HTTP/1.1\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\n\r\n", "200"),
        ("GET //latest///meta-data//mac HTTP/1.0\r\n\r\n", "200"),
        ("HEAD /latest/user-data HTTP/1.1\r\n\r\n", "200"),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("PUT /latest/user-data HTTP/1.1\r\n\r\n", "405"),
        ("GET /latest/api/token HTTP/1.1\r\n\r\n", "405"),
        ("PUT /latest/api/token HTTP/1.1\r\n\r\n", "400"),
        (
            &format!("PUT /latest/api/token HTTP/1.1\r\n{token}: 21600\r\n\r\n"),
            "200",
        ),
        (
            &format!("PUT /latest/api/token HTTP/1.1\r\n{token}: 21601\r\n\r\n"),
            "400",
        ),
        (
            &format!("PUT /latest/api/token HTTP/1.1\r\n{token}: 9\r\nX-Forwarded-For: 1\r\n\r\n"),
            "403",
        ),
        ("nonsense\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1}", "400"),
        (&long, "431"),
        (&many, "431"),
    ] {
        let answer = web.request(&mut router, V4, request);
        assert_eq!(
            answer.split(' ').nth(1),
            Some(status),
            "{request:.60}: {answer}"
        );
        assert!(answer.contains("Connection: close\r\n"));
    }
    let head = web.request(&mut router, V4, "HEAD /latest/user-data HTTP/1.1\r\n\r\n");
    assert!(
        head.contains("Content-Length: 35\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let counts = router.counts();
    assert_eq!(
        (counts["metadata_answers"], counts["metadata_refusals"]),
        (5, 13)
    );
}

#[test]
fn a_token_is_given_and_need_not_be_shown() {
    let (mut router, mut web) = (router(), web());
    let put = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
    let answer = web.request(&mut router, V4, put);
    assert!(
        answer.contains("X-aws-ec2-metadata-token-ttl-seconds: 60\r\n"),
        "{answer}"
    );
    let token = answer.split("\r\n\r\n").nth(1).unwrap();
    let get =
        format!("GET /latest/meta-data/mac HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n");
    assert!(
        web.request(&mut router, V4, &get)
            .ends_with("52:54:00:00:00:01")
    );
}

#[test]
fn a_request_may_come_in_pieces_and_with_unfinished_checksums() {
    let (mut router, mut web) = (router(), web());
    web.leaves_checksums = true;
    let connection = web.connect(&mut router, (V4, 80));
    for piece in [
        "GET /latest/",
        "meta-data/in",
        "stance-id HTTP/1.1\r",
        "\n\r",
        "\n",
    ] {
        assert!(web.hear(connection).is_empty());
        web.say(&mut router, connection, piece.as_bytes());
    }
    let answer = String::from_utf8(web.hear(connection)).unwrap();
    assert!(answer.ends_with("\r\n\r\ni-web"), "{answer}");
}

#[test]
fn all_of_large_user_data_arrives() {
    let text: String = (0..16_384)
        .map(|n| char::from(b'a' + (n % 23) as u8))
        .collect();
    let file = file().replace("#cloud-config\\nhostname: of the web\\n", &text);
    let (mut router, mut web) = (Router::settled(&file), web());
    assert_eq!(content(&mut web, &mut router, "/latest/user-data"), text);
}
