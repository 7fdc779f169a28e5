//! A containerd shim, spoken to over its ttrpc socket; containerd need not run for that.
//!
//! The task service is called `containerd.task.v3.Task` by shims that containerd 2 started and
//! `containerd.task.v2.Task` by older ones; the messages are the same, and the wrong name is answered with
//! status 12 (unimplemented).

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use ttrpc::Client;
use ttrpc::proto::{Code, KeyValue, Request};

use crate::error::{Context, Error, Result};
use crate::runtime::wire::Message;
use crate::runtime::{ContainerId, stop_signal};

const SERVICES: [&str; 2] = ["containerd.task.v3.Task", "containerd.task.v2.Task"];

/// Asks the shim that listens there to signal a container's first process, or all, and waits for its answer until then.
/// False if there was none: the shim has the request, and may still do it.
///
/// A shim drops a request when its asker hangs up, and kills the runc that was doing it. So the connection is kept, by a
/// thread that nobody waits for, until the deadline of the run.
pub fn kill(
    path: &Path,
    container: &ContainerId,
    signal: stop_signal::Number,
    all: bool,
    until: Instant,
    deadline: Instant,
) -> Result<bool> {
    let (answer, answered) = channel();
    let (socket, of) = (path.to_path_buf(), container.clone());
    let ask = move || {
        let shim = ShimClient::connect(&socket, &of.namespace, deadline);
        let _ = answer.send(shim.and_then(|shim| shim.kill(&of.id, signal, all)));
    };
    std::thread::Builder::new().spawn(ask).context("ask", path)?;
    match answered.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(answer) => answer.map(|()| true),
        Err(RecvTimeoutError::Timeout) => Ok(false),
        Err(RecvTimeoutError::Disconnected) => Err(other(path, &ttrpc::Error::LocalClosed)),
    }
}

/// One connection to a shim.
pub struct ShimClient<'a> {
    client: Client,
    path: &'a Path,
    namespace: &'a str,
    until: Instant,
}

impl<'a> ShimClient<'a> {
    /// Connects without ever waiting for a shim that does not accept. That it fails says only that this way is
    /// closed, not that the container is gone.
    pub fn connect(path: &'a Path, namespace: &'a str, until: Instant) -> Result<ShimClient<'a>> {
        let descriptor = dial(path).map_err(io::Error::from).context("connect to", path)?;
        let client = Client::new(descriptor.into_raw_fd()).map_err(|e| other(path, &e))?;
        Ok(ShimClient { client, path, namespace, until })
    }

    /// Signals the container's first process, or all.
    pub fn kill(&self, id: &str, signal: stop_signal::Number, all: bool) -> Result<()> {
        let signal = signal.unsigned_abs();
        self.call("Kill", &Message::of(id).number(3, signal).number(4, u32::from(all)))
    }

    /// Lets a container go on that was paused.
    pub fn resume(&self, id: &str) -> Result<()> {
        self.call("Resume", &Message::of(id))
    }

    /// Lets the shim forget a container whose processes are dead: it unmounts, removes the group and runc's state.
    pub fn delete(&self, id: &str) -> Result<()> {
        self.call("Delete", &Message::of(id))
    }

    /// Ends a shim that serves no container any more; does nothing, and says that it did, while it serves one.
    pub fn shutdown(&self, id: &str) -> Result<()> {
        self.call("Shutdown", &Message::of(id))
    }

    fn call(&self, method: &str, message: &Message) -> Result<()> {
        match self.answer(method, message) {
            // The container, or the process, is gone already.
            Err(ttrpc::Error::RpcStatus(status)) if status.code() == Code::NOT_FOUND => Ok(()),
            // The shim ended before it could answer a Shutdown.
            Err(ttrpc::Error::Eof | ttrpc::Error::LocalClosed | ttrpc::Error::RemoteClosed)
                if method == "Shutdown" =>
            {
                Ok(())
            }
            other_answer => other_answer.map(drop).map_err(|e| other(self.path, &e)),
        }
    }

    /// Asks for something, and returns what is answered.
    pub(super) fn ask(&self, method: &str, message: &Message) -> Result<Vec<u8>> {
        self.answer(method, message).map_err(|e| other(self.path, &e))
    }

    /// Asks by the newer service's name first.
    fn answer(&self, method: &str, message: &Message) -> std::result::Result<Vec<u8>, ttrpc::Error> {
        match self.request(SERVICES[0], method, message.bytes()) {
            Err(ttrpc::Error::RpcStatus(status)) if status.code() == Code::UNIMPLEMENTED => {
                self.request(SERVICES[1], method, message.bytes())
            }
            answer => answer,
        }
    }

    fn request(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> std::result::Result<Vec<u8>, ttrpc::Error> {
        let left = self.until.saturating_duration_since(Instant::now()).as_nanos();
        let namespace = KeyValue {
            key: "containerd-namespace-ttrpc".into(),
            value: self.namespace.into(),
            ..Default::default()
        };
        let request = Request {
            service: service.into(),
            method: method.into(),
            payload,
            // Zero would mean "for ever".
            timeout_nano: i64::try_from(left).unwrap_or(i64::MAX).max(1),
            metadata: vec![namespace],
            ..Default::default()
        };
        self.client.request(request).map(|response| response.payload)
    }
}

/// Connects at once or not at all: a full backlog is answered with EAGAIN.
fn dial(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(descriptor)
}

fn other(path: &Path, error: &ttrpc::Error) -> Error {
    let reason = match error {
        ttrpc::Error::RpcStatus(status) => format!("the shim says: {}", status.message()),
        _ => format!("the shim gave no usable answer: {error}"),
    };
    Error::Malformed { path: path.into(), reason }
}
