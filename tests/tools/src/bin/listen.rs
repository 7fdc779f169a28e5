//! The pod that holds a port: `listen PORT` answers each connection on 127.0.0.1 with one line until SIGTERM.
//!
//! If the port is taken it ends with a failure: that is how a pod of an earlier installation would show itself.

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use nix::sys::signal::{SigSet, Signal};

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("usage: listen PORT")?.parse()?;
    // A blocked signal waits for us, and arrives although the first process of a pid namespace has no default actions.
    let stop = SigSet::from_iter([Signal::SIGTERM]);
    stop.thread_block()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if let Err(error) = client.write_all(b"alive\n") {
                eprintln!("listen: {error}");
            }
        }
    });
    stop.wait()?;
    Ok(())
}
