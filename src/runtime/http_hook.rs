//! The request of an httpGet hook, as kubelet sends it since 1.26 (kubelet `lifecycle/handlers.go`, `runHTTPHandler`;
//! `probe/http/request.go`), which means as Go's HTTP client writes it (Go `net/http/request.go`, `write`).
//!
//! The pod's author chooses path and headers. None of them can end the request and begin another: what has a control
//! character in it makes no request at all, as in Go.

use std::fmt::Write;
use std::net::SocketAddr;

use super::pre_stop::HttpGet;
use crate::order;

/// A request is no longer.
const LONGEST: usize = 64 << 10;

/// kubelet says which version of Kubernetes it is; that is written nowhere.
const USER_AGENT: &str = "kube-lifecycle/1.0";

/// Headers that Go writes itself or not at all, whatever the map of headers holds (`reqWriteExcludeHeader`).
const NOT_COPIED: [&str; 5] = ["host", "user-agent", "content-length", "transfer-encoding", "trailer"];

/// The text of the request, or none if what the pod asks for cannot stand in one.
pub fn request(get: &HttpGet, to: SocketAddr) -> Option<String> {
    let good = |(name, value): &(String, String)| is_token(name) && !value.contains(is_control);
    if !get.headers.iter().all(good) {
        return None;
    }
    let given = |name: &str| {
        let mut all = get.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        all.next().map(|(_, value)| value.trim())
    };
    let own = to.to_string();
    let host = given("host").filter(|host| !host.is_empty()).unwrap_or(&own);
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)) {
        return None;
    }
    let mut text = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", target(&get.path)?);
    let mut line = |name: &str, value: &str| write!(text, "{name}: {value}\r\n").ok();
    if let Some(agent) = Some(given("user-agent").unwrap_or(USER_AGENT)).filter(|agent| !agent.is_empty()) {
        line("User-Agent", agent)?;
    }
    let copied = get.headers.iter().map(|(name, value)| (canonical(name), value.trim()));
    let mut headers: Vec<_> =
        copied.filter(|(name, _)| !NOT_COPIED.iter().any(|not| name.eq_ignore_ascii_case(not))).collect();
    match given("accept") {
        None => headers.push(("Accept".into(), "*/*")),
        Some("") => headers.retain(|(name, _)| name != "Accept"),
        Some(_) => {}
    }
    // Those of one name stay in their order.
    order::sort_by(&mut headers, |(a, _), (b, _)| a.cmp(b));
    headers.iter().try_for_each(|(name, value)| line(name, value))?;
    if given("accept-encoding").is_none() && given("range").is_none() {
        line("Accept-Encoding", "gzip")?;
    }
    text.push_str("\r\n");
    (text.len() <= LONGEST).then_some(text)
}

/// What is asked for: a path with its query. What leads elsewhere, a whole address for example, is refused.
fn target(path: &str) -> Option<String> {
    if path.contains(is_control) || path.starts_with("//") {
        return None;
    }
    let path = path.split('#').next().unwrap_or_default();
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    // Go takes what stands before a colon in the first part for a scheme.
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    let mut text = if path.starts_with('/') { String::new() } else { "/".to_owned() };
    push_escaped(&mut text, path, b"-_.~$&+,/:;=@!'()*[]");
    if let Some(query) = query {
        text.push('?');
        push_escaped(&mut text, query, b"-_.~$&+,/:;=@!'()*[]?\"<>\\^`{|}");
    }
    Some(text)
}

/// Appends a text with all other bytes as `%XX`. What is escaped already stays so, if all of it is well escaped.
fn push_escaped(to: &mut String, text: &str, plain: &[u8]) {
    let is_hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let escaped = text.bytes().enumerate().all(|(at, b)| b != b'%' || is_hex(at + 1) && is_hex(at + 2));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) || byte == b'%' && escaped {
            to.push(char::from(byte));
        } else {
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

fn is_control(c: char) -> bool {
    c.is_ascii_control() && c != '\t'
}

/// What may be a header's name (RFC 9110, "token").
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A header's name as Go writes it: `X-Forwarded-For`.
fn canonical(name: &str) -> String {
    let mut start = true;
    let change = |c: char| {
        let changed = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        start = c == '-';
        changed
    };
    name.chars().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, headers: &[(&str, &str)]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let get = HttpGet { path: path.into(), port: Some(80), host: String::new(), tls: false, headers };
        request(&get, "10.1.0.2:80".parse().unwrap())
    }

    #[test]
    fn as_kubelet_sends_it() {
        assert_eq!(
            of("/stop?now=1", &[]).unwrap(),
            "GET /stop?now=1 HTTP/1.1\r\nHost: 10.1.0.2:80\r\nUser-Agent: kube-lifecycle/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"
        );
        let given =
            [("x-b", "2 "), ("X-A", "1"), ("X-B", "3"), ("accept", "text/plain"), ("host", "pod.example")];
        assert_eq!(
            of("healthz", &given).unwrap(),
            "GET /healthz HTTP/1.1\r\nHost: pod.example\r\nUser-Agent: kube-lifecycle/1.0\r\n\
             Accept: text/plain\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\nAccept-Encoding: gzip\r\n\r\n"
        );
        let bare =
            of("", &[("User-Agent", ""), ("Accept", ""), ("Content-Length", "9"), ("Range", "x")]).unwrap();
        assert_eq!(bare, "GET / HTTP/1.1\r\nHost: 10.1.0.2:80\r\nRange: x\r\n\r\n");
    }

    #[test]
    fn paths_are_escaped_as_go_does() {
        for (path, target) in [
            ("/a b/ä", "/a%20b/%C3%A4"),
            ("/a%20b", "/a%20b"),
            ("/100%", "/100%25"),
            ("/%zz%20", "/%25zz%2520"),
            ("/x#part", "/x"),
            ("/x?q=a b&r=\"", "/x?q=a%20b&r=\""),
            ("/x?", "/x?"),
            ("/a:b", "/a:b"),
        ] {
            assert_eq!(super::target(path).as_deref(), Some(target), "{path}");
        }
    }

    #[test]
    fn nothing_can_be_put_in_behind_it() {
        for path in ["/\r\nHost: evil", "/\n", "/\0", "//evil/x", "http://evil/x", "evil:80/x", "/\x7f"] {
            assert_eq!(of(path, &[]), None, "{path:?}");
        }
        for header in [
            ("X", "a\r\nY: b"),
            ("X", "a\n"),
            ("X\r\nY", "b"),
            ("X:", "b"),
            ("", "b"),
            ("X Y", "b"),
            ("Host", "evil\r\n"),
            ("Host", "a b"),
            ("Host", "a/b"),
            ("Ä", "b"),
        ] {
            assert_eq!(of("/", &[header]), None, "{header:?}");
        }
        assert_eq!(of(&"x".repeat(LONGEST), &[]), None);
    }
}
