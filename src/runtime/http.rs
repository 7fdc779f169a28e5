//! One request over HTTP, and as much of the answer as kubelet reads: the least that a preStop hook needs.
//!
//! No other address is asked, whatever the answer says: a redirect is an answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The head of an answer is no longer.
const LONGEST_HEAD: u64 = 64 << 10;

/// So much of the body is waited for (kubelet `lifecycle/handlers.go`, `maxRespBodyLength`).
const LONGEST_BODY: u64 = 10 << 10;

/// Sends a request, waits for the answer, and returns its status; all of it until then.
pub fn ask(to: SocketAddr, request: &str, until: Instant) -> io::Result<u16> {
    let stream = TcpStream::connect_timeout(&to, left(until)?)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(left(until)?))?;
    (&stream).write_all(request.as_bytes())?;
    let mut reader = BufReader::new(Timed { stream, until });
    loop {
        let head = Head::read(&mut reader)?;
        // What is only said in between: the answer follows.
        if !(100..200).contains(&head.status) || head.status == 101 {
            // The status counts, whatever becomes of the body.
            let _ = head.pass_over_body(&mut reader);
            return Ok(head.status);
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A stream that is read until then, however slowly it comes.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Head> {
        let mut from = from.take(LONGEST_HEAD);
        let mut line = || {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            let text = line.strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(text).trim_end().to_owned())
        };
        let first = line()?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        let status =
            status.filter(|status| (100..1000).contains(status)).ok_or(io::ErrorKind::InvalidData)?;
        let mut head = Head { status, length: None, chunked: false };
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else {
                return if line.is_empty() { Ok(head) } else { Err(io::ErrorKind::InvalidData.into()) };
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().ok(),
                "transfer-encoding" => head.chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
    }

    /// Waits for the end of the body, or for as much of it as kubelet does: a server may do its work while it answers.
    fn pass_over_body(&self, from: &mut impl BufRead) -> io::Result<()> {
        let bodiless = matches!(self.status, 101 | 204 | 304);
        if bodiless || self.length.is_some_and(|length| length > LONGEST_BODY) {
            return Ok(());
        }
        let mut from = from.take(self.length.unwrap_or(LONGEST_BODY));
        let mut last = Vec::new();
        while !(self.chunked && last == b"0\r\n") {
            last.clear();
            if from.read_until(b'\n', &mut last)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks a server that answers in these pieces, and then hangs up or stays.
    fn answered(pieces: &'static [&'static str], stays: bool) -> (io::Result<u16>, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            pieces.iter().for_each(|piece| drop(stream.write_all(piece.as_bytes())));
            // Until the other one hangs up.
            if stays {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let started = Instant::now();
        let status = ask(to, "GET ", started + Duration::from_millis(500));
        let took = started.elapsed();
        server.join().unwrap();
        (status, took)
    }

    #[test]
    fn any_status_is_an_answer() {
        for (pieces, stays, status) in [
            (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"][..], true, 200),
            (&["HTTP/1.1 500 Oh\r\n\r\n", "text"], false, 500),
            (
                &["HTTP/1.0 ", "302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"],
                true,
                302,
            ),
            (&["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"], true, 204),
            (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], true, 200),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"], true, 200),
            (&["HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n"], true, 404),
        ] {
            let (answer, took) = answered(pieces, stays);
            assert_eq!(answer.ok(), Some(status), "{pieces:?}");
            assert!(took < Duration::from_millis(450), "{pieces:?}: {took:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for pieces in [
            &[""][..],
            &["SSH-2.0-x\r\n"],
            &["HTTP/1.1 2", "00 OK\r\n"],
            &["HTTP/2 200\r\n\r\n"],
            &["HTTP/1.1 20 x\r\n\r\n"],
        ] {
            assert!(answered(pieces, false).0.is_err(), "{pieces:?}");
        }
    }

    #[test]
    fn a_server_that_does_not_end_is_left_in_time() {
        for pieces in [&["HTTP/1.1 200 OK\r\n"][..], &[""], &["HTTP/1.1 100 C\r\n\r\n"]] {
            let (answer, took) = answered(pieces, true);
            assert!(answer.is_err(), "{pieces:?}");
            assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
        }
        let (answer, took) = answered(&["HTTP/1.1 200 OK\r\n\r\nslow"], true);
        assert_eq!(answer.ok(), Some(200));
        assert!(took >= Duration::from_millis(450), "the body was not waited for: {took:?}");
    }

    #[test]
    fn nobody_there_is_an_error_at_once() {
        let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ask(to, "GET ", Instant::now() + Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(ask(to, "GET ", Instant::now()).is_err());
    }
}
