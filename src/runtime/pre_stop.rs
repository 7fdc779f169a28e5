//! What a container wants to be done before it is told to stop: its preStop hook, as kubelet wrote it down.

use serde::de::Error as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// So many words has a command at most, and so many headers a request: no more is kept.
const MOST_WORDS: usize = 4096;
const MOST_HEADERS: usize = 64;

/// So many ports of a container are kept.
const MOST_PORTS: usize = 1024;

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreStop {
    /// A command in the container.
    Exec(Vec<String>),
    /// So many seconds.
    Sleep(u64),
    /// A request.
    HttpGet(HttpGet),
    /// What the API has a word for and kubelet runs in no version (`lifecycle/handlers.go`, "invalid handler").
    TcpSocket,
    /// What we have no word for.
    Unknown,
}

/// A request of HTTP, or of HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// What is asked for, perhaps with a query.
    pub path: String,
    /// The port, if it is one or the name of one of the container's.
    pub port: Option<u16>,
    /// Another host than the pod; empty for the pod.
    pub host: String,
    /// True for HTTPS.
    pub tls: bool,
    /// Headers as given.
    pub headers: Vec<(String, String)>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Its name, perhaps empty.
    pub name: String,
    /// Its number in the container.
    pub container_port: u16,
    /// Its number on the host, or 0.
    pub host_port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: String,
}

impl PreStop {
    /// Its kind, in the words of the API.
    pub fn kind(&self) -> &'static str {
        match self {
            PreStop::Exec(_) => "exec",
            PreStop::Sleep(_) => "sleep",
            PreStop::HttpGet(_) => "httpGet",
            PreStop::TcpSocket => "tcpSocket",
            PreStop::Unknown => "unknown",
        }
    }
}

#[derive(Deserialize)]
struct Handler {
    exec: Option<Exec>,
    #[serde(rename = "httpGet")]
    http_get: Option<Get>,
    #[serde(rename = "tcpSocket")]
    tcp_socket: Option<IgnoredAny>,
    sleep: Option<Sleep>,
}

#[derive(Deserialize)]
struct Exec {
    #[serde(default)]
    command: Vec<String>,
}

#[derive(Deserialize)]
struct Sleep {
    seconds: i64,
}

#[derive(Deserialize)]
struct Get {
    #[serde(default)]
    path: String,
    port: NumberOrName,
    #[serde(default)]
    host: String,
    #[serde(default)]
    scheme: String,
    #[serde(default, rename = "httpHeaders")]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

enum NumberOrName {
    Number(i64),
    Name(String),
}

/// By hand, for the program's size: derived code would read it into a tree of values first.
impl<'de> Deserialize<'de> for NumberOrName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NumberOrName, D::Error> {
        let json = Box::<RawValue>::deserialize(from)?;
        let json = json.get().as_bytes();
        let read = match json.first() {
            Some(b'"') => crate::json::parse(json).map(NumberOrName::Name),
            _ => crate::json::parse(json).map(NumberOrName::Number),
        };
        read.map_err(D::Error::custom)
    }
}

/// Reads kubelet's annotation `io.kubernetes.container.preStopHandler`, the API's LifecycleHandler as JSON. If it says more
/// than one thing, the first one that kubelet asks for counts (`lifecycle/handlers.go`, `Run`).
pub fn parse(json: &str, ports: &[Port]) -> PreStop {
    let Ok(handler) = crate::json::parse::<Handler>(json.as_bytes()) else { return PreStop::Unknown };
    let hook = if let Some(exec) = handler.exec {
        (1..=MOST_WORDS).contains(&exec.command.len()).then_some(PreStop::Exec(exec.command))
    } else if let Some(get) = handler.http_get {
        request(get, ports)
    } else if let Some(sleep) = handler.sleep {
        u64::try_from(sleep.seconds).ok().map(PreStop::Sleep)
    } else {
        handler.tcp_socket.map(|_| PreStop::TcpSocket)
    };
    hook.unwrap_or(PreStop::Unknown)
}

fn request(get: Get, ports: &[Port]) -> Option<PreStop> {
    let tls = match get.scheme.to_ascii_lowercase().as_str() {
        "" | "http" => false,
        "https" => true,
        _ => return None,
    };
    if get.headers.len() > MOST_HEADERS {
        return None;
    }
    Some(PreStop::HttpGet(HttpGet {
        path: get.path,
        port: resolve(&get.port, ports),
        host: get.host,
        tls,
        headers: get.headers.into_iter().map(|header| (header.name, header.value)).collect(),
    }))
}

/// A number, a number as text, or the name of a port (kubelet `probe/util.go`, `ResolveContainerPort`).
fn resolve(port: &NumberOrName, ports: &[Port]) -> Option<u16> {
    let number = match port {
        NumberOrName::Number(number) => u16::try_from(*number).ok()?,
        NumberOrName::Name(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => ports.iter().find(|port| port.name == *name && !name.is_empty())?.container_port,
        },
    };
    (number > 0).then_some(number)
}

/// Reads kubelet's annotation `io.kubernetes.container.ports`.
pub fn parse_ports(json: &str) -> Option<Vec<Port>> {
    crate::json::parse::<Vec<Port>>(json.as_bytes()).ok().filter(|ports| ports.len() <= MOST_PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(json: &str) -> HttpGet {
        let ports =
            parse_ports(r#"[{"name":"web","containerPort":8080,"protocol":"TCP"},{"containerPort":1}]"#);
        match parse(json, &ports.unwrap()) {
            PreStop::HttpGet(get) => get,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_of_hook() {
        let exec = parse(r#"{"exec":{"command":["/bin/sh","-c","echo bye && nginx -s quit"]}}"#, &[]);
        assert_eq!(
            exec,
            PreStop::Exec(["/bin/sh", "-c", "echo bye && nginx -s quit"].map(Into::into).into())
        );
        assert_eq!(parse(r#"{"sleep":{"seconds":5}}"#, &[]), PreStop::Sleep(5));
        assert_eq!(parse(r#"{"tcpSocket":{"port":1}}"#, &[]), PreStop::TcpSocket);
        let get = get(
            r#"{"httpGet":{"path":"/stop?now=1","port":"web","scheme":"HTTP","httpHeaders":[{"name":"X-A","value":"b"}]}}"#,
        );
        assert_eq!((get.path.as_str(), get.port, get.tls), ("/stop?now=1", Some(8080), false));
        assert_eq!(get.headers, [("X-A".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn ports_by_number_text_and_name() {
        for (port, number) in [
            ("80", Some(80)),
            ("\"80\"", Some(80)),
            ("\"web\"", Some(8080)),
            ("\"\"", None),
            ("\"none\"", None),
            ("0", None),
            ("65536", None),
            ("-1", None),
            ("\"99999\"", None),
        ] {
            assert_eq!(get(&format!(r#"{{"httpGet":{{"port":{port}}}}}"#)).port, number, "{port}");
        }
    }

    #[test]
    fn nonsense_is_unknown() {
        for json in [
            "",
            "{}",
            "[]",
            "null",
            "{\"exec\":{}}",
            "{\"exec\":{\"command\":[]}}",
            "{\"exec\":{\"command\":\"x\"}}",
            "{\"sleep\":{\"seconds\":-1}}",
            "{\"sleep\":{}}",
            "{\"httpGet\":{}}",
            "{\"grpc\":{}}",
            "{\"httpGet\":{\"port\":1,\"scheme\":\"gopher\"}}",
            "{\"exec\":{\"command\":[1]}}",
        ] {
            assert_eq!(parse(json, &[]), PreStop::Unknown, "{json}");
        }
        let many = format!(r#"{{"exec":{{"command":[{}"x"]}}}}"#, "\"x\",".repeat(MOST_WORDS));
        assert_eq!(parse(&many, &[]), PreStop::Unknown);
    }
}
