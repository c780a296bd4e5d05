//! HTTP/1.1 as far as the metadata service needs it (RFC 9110, RFC 9112): a request's head, and a
//! response's. Each connection carries one request.

use std::fmt::Write;

/// Most header fields that are read.
const FIELDS: usize = 48;
/// With which a client asks for a token of EC2's metadata service, version 2.
const TOKEN_SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Send it.
    Get,
    /// Send what `Get` would, but for the content.
    Head,
    /// Put it there.
    Put,
    /// Anything else.
    Other,
}

/// A request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'b> {
    /// What is to be done.
    pub method: Method,
    /// To what: the path, without query.
    pub path: &'b str,
    /// For how many seconds a token is wanted, as it is written.
    pub token_seconds: Option<&'b str>,
    /// A proxy passed it on.
    pub is_forwarded: bool,
}

/// What a response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Ok,
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
}

impl Status {
    /// As it is written on a response's first line (RFC 9110 §15, RFC 6585 §5).
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
        }
    }
}

/// Reads a request's head at the start of `bytes`. `None`: there is more to come.
///
/// # Errors
/// It is none, or more than is read.
pub fn request(bytes: &[u8]) -> Result<Option<Request<'_>>, Status> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::HeadTooLarge),
        Err(_) => return Err(Status::BadRequest),
    }
    let field = |name: &str| {
        let mut fields = parsed.headers.iter();
        fields.find(|field| field.name.eq_ignore_ascii_case(name))
    };
    let token = field(TOKEN_SECONDS).map(|field| std::str::from_utf8(field.value));
    Ok(Some(Request {
        method: match parsed.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("PUT") => Method::Put,
            _ => Method::Other,
        },
        path: path(parsed.path.unwrap_or_default()),
        token_seconds: token.transpose().map_err(|_| Status::BadRequest)?,
        is_forwarded: field("x-forwarded-for").is_some(),
    }))
}

/// The path of a request's target, which a proxy's client writes with scheme and host (RFC 9112 §3.2).
fn path(target: &str) -> &str {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    target.split('?').next().unwrap_or_default()
}

/// A response's head: `length` bytes of content follow, then the connection is closed. `fields` are
/// further ones.
pub fn response(status: Status, length: usize, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n",
        status.text()
    );
    for (name, value) in fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<Request<'_>>, Status> {
        request(head.as_bytes())
    }

    #[test]
    fn a_head_is_read_however_it_comes() {
        let whole = "PUT /latest/api/token?x=1 HTTP/1.1\r\nHost: x\r\nX-aws-EC2-metadata-token-ttl-seconds: 60\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Ok(None), "{length}");
        }
        let request = Request {
            method: Method::Put,
            path: "/latest/api/token",
            token_seconds: Some("60"),
            is_forwarded: false,
        };
        assert_eq!(read(whole), Ok(Some(request)));
        let absolute = "GET http://169.254.169.254/latest/ HTTP/1.0\r\n\r\n";
        assert_eq!(read(absolute).unwrap().unwrap().path, "/latest/");
        let bare = "HEAD http://169.254.169.254 HTTP/1.0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n";
        let bare = read(bare).unwrap().unwrap();
        assert_eq!(
            (bare.path, bare.method, bare.is_forwarded),
            ("/", Method::Head, true)
        );
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for head in [
            "\x16\x03\x01",
            "GET\r\n\r\n",
            "GET / SPDY/3\r\n\r\n",
            "GET / HTTP/1.1\r\n: x\r\n\r\n",
        ] {
            assert_eq!(read(head), Err(Status::BadRequest), "{head:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
        assert_eq!(read(&many), Err(Status::HeadTooLarge));
    }
}
