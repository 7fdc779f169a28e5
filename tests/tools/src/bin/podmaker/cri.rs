//! A client of the container runtime interface (CRI, `runtime.v1`): only the calls and fields that the tests need.
//!
//! A unary gRPC call is one HTTP/2 request with a five-byte frame around a protobuf message, so h2 and prost do. No
//! generated code and no protobuf compiler; fields that are not named here keep the runtime's defaults.

use std::error::Error;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::net::UnixStream;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

macro_rules! messages {
    ($($name:ident { $($(#[$attr:meta])+ $field:ident: $type:ty,)* })*) => {
        $(#[derive(Clone, PartialEq, Message)]
        pub struct $name { $($(#[$attr])+ pub $field: $type,)* })*
    };
}

messages! {
    VersionRequest {
        #[prost(string, tag = "1")] version: String,
    }
    VersionResponse {
        #[prost(string, tag = "2")] runtime_name: String,
        #[prost(string, tag = "3")] runtime_version: String,
        #[prost(string, tag = "4")] runtime_api_version: String,
    }
    Metadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] uid: String,
        #[prost(string, tag = "3")] namespace: String,
        #[prost(uint32, tag = "4")] attempt: u32,
    }
    // Values of each: 0 the pod's own, 1 the container's own, 2 the host's.
    NamespaceOption {
        #[prost(int32, tag = "1")] network: i32,
        #[prost(int32, tag = "2")] pid: i32,
        #[prost(int32, tag = "3")] ipc: i32,
    }
    Int64Value {
        #[prost(int64, tag = "1")] value: i64,
    }
    SandboxSecurity {
        #[prost(message, optional, tag = "1")] namespaces: Option<NamespaceOption>,
        #[prost(message, optional, tag = "3")] run_as_user: Option<Int64Value>,
        #[prost(bool, tag = "6")] privileged: bool,
    }
    LinuxSandbox {
        #[prost(string, tag = "1")] cgroup_parent: String,
        #[prost(message, optional, tag = "2")] security: Option<SandboxSecurity>,
    }
    PortMapping {
        #[prost(int32, tag = "2")] container_port: i32,
        #[prost(int32, tag = "3")] host_port: i32,
    }
    SandboxConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<Metadata>,
        #[prost(string, tag = "2")] hostname: String,
        #[prost(string, tag = "3")] log_directory: String,
        #[prost(message, repeated, tag = "5")] port_mappings: Vec<PortMapping>,
        #[prost(map = "string, string", tag = "7")] annotations: std::collections::HashMap<String, String>,
        #[prost(message, optional, tag = "8")] linux: Option<LinuxSandbox>,
    }
    RunSandboxRequest {
        #[prost(message, optional, tag = "1")] config: Option<SandboxConfig>,
    }
    // Every request and answer that consists of one id.
    Id {
        #[prost(string, tag = "1")] id: String,
    }
    StatusRequest {
        #[prost(string, tag = "1")] id: String,
        #[prost(bool, tag = "2")] verbose: bool,
    }
    StatusResponse {
        #[prost(map = "string, string", tag = "2")] info: std::collections::HashMap<String, String>,
    }
    Empty {}
    Sandbox {
        #[prost(string, tag = "1")] id: String,
        #[prost(message, optional, tag = "2")] metadata: Option<Metadata>,
        #[prost(int32, tag = "3")] state: i32,
    }
    SandboxList {
        #[prost(message, repeated, tag = "1")] items: Vec<Sandbox>,
    }
    ContainerMetadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(uint32, tag = "2")] attempt: u32,
    }
    Container {
        #[prost(string, tag = "1")] id: String,
        #[prost(string, tag = "2")] pod_sandbox_id: String,
        #[prost(message, optional, tag = "3")] metadata: Option<ContainerMetadata>,
        #[prost(int32, tag = "6")] state: i32,
    }
    ContainerList {
        #[prost(message, repeated, tag = "1")] items: Vec<Container>,
    }
    ImageSpec {
        #[prost(string, tag = "1")] image: String,
    }
    Mount {
        #[prost(string, tag = "1")] container_path: String,
        #[prost(string, tag = "2")] host_path: String,
        #[prost(bool, tag = "3")] readonly: bool,
        #[prost(int32, tag = "5")] propagation: i32,
        #[prost(message, optional, tag = "9")] image: Option<ImageSpec>,
    }
    ContainerSecurity {
        #[prost(bool, tag = "2")] privileged: bool,
        #[prost(message, optional, tag = "3")] namespaces: Option<NamespaceOption>,
        #[prost(message, optional, tag = "5")] run_as_user: Option<Int64Value>,
    }
    LinuxContainer {
        #[prost(message, optional, tag = "2")] security: Option<ContainerSecurity>,
    }
    KeyValue {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
    }
    ContainerConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<ContainerMetadata>,
        #[prost(message, optional, tag = "2")] image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")] command: Vec<String>,
        #[prost(message, repeated, tag = "6")] envs: Vec<KeyValue>,
        #[prost(message, repeated, tag = "7")] mounts: Vec<Mount>,
        #[prost(map = "string, string", tag = "9")] labels: std::collections::HashMap<String, String>,
        #[prost(map = "string, string", tag = "10")] annotations: std::collections::HashMap<String, String>,
        #[prost(string, tag = "11")] log_path: String,
        #[prost(message, optional, tag = "15")] linux: Option<LinuxContainer>,
    }
    CreateContainerRequest {
        #[prost(string, tag = "1")] pod_sandbox_id: String,
        #[prost(message, optional, tag = "2")] config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")] sandbox_config: Option<SandboxConfig>,
    }
}

/// A connection to a runtime's socket; clones share it.
#[derive(Clone)]
pub struct Runtime {
    requests: h2::client::SendRequest<Bytes>,
    limit: Duration,
}

impl Runtime {
    pub async fn connect(socket: &str, limit: Duration) -> Result<Runtime> {
        let stream =
            UnixStream::connect(socket).await.map_err(|e| format!("cannot connect to '{socket}': {e}"))?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Runtime { requests, limit })
    }

    /// Calls one method of `runtime.v1.RuntimeService`.
    pub async fn call<Q: Message, A: Message + Default>(&self, method: &str, question: Q) -> Result<A> {
        let answer = tokio::time::timeout(self.limit, self.exchange(method, question.encode_to_vec())).await;
        let answer = answer.map_err(|_| format!("{method}: no answer in {:?}", self.limit))??;
        Ok(A::decode(answer)?)
    }

    async fn exchange(&self, method: &str, message: Vec<u8>) -> Result<Bytes> {
        let request = http::Request::post(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(request, false)?;
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame.put_u8(0); // not compressed
        frame.put_u32(u32::try_from(message.len())?);
        frame.extend_from_slice(&message);
        body.send_data(frame.freeze(), true)?;

        let response = response.await?;
        refused(method, response.headers())?;
        let mut body = response.into_body();
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            received.extend_from_slice(&chunk);
        }
        if let Some(trailers) = body.trailers().await? {
            refused(method, &trailers)?;
        }
        if received.len() < 5 {
            return Err(format!("{method}: empty answer").into());
        }
        Ok(received.freeze().slice(5..))
    }
}

/// An error if the headers carry a gRPC status other than success.
fn refused(method: &str, headers: &http::HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    match text("grpc-status").as_deref() {
        None | Some("0") => Ok(()),
        Some(code) => {
            Err(format!("{method}: status {code}: {}", text("grpc-message").unwrap_or_default()).into())
        }
    }
}
