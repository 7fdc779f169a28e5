//! What a drain must wait for and no event tells of: answers of shims and of pods. Threads wait for them, a few at a time.
//!
//! Nobody waits for the threads. What they do is bounded by the time that it was given, and needs nothing of ours.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{fs::File, io};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::error::Result;
use crate::linux::sync::locked;
use crate::runtime::exec::{self, Started};
use crate::runtime::ttrpc::{self, ShimClient};
use crate::runtime::{ContainerId, http, stop_signal};

/// So many shims are asked at a time: each takes milliseconds, mostly waiting for its runc.
const MOST_SHIMS: usize = 8;

/// So many pods are asked at a time: each may take its whole grace to answer.
const MOST_PODS: usize = 64;

/// A shim's container.
#[derive(Clone)]
pub struct AtShim {
    /// Where the shim listens.
    pub socket: Arc<Path>,
    pub container: ContainerId,
}

/// What is to be done until then.
pub enum Job {
    /// Let it go on that was paused.
    Resume(AtShim),
    /// Start a command, the `process` of a spec.
    Start(AtShim, String),
    /// Ask for the status of one that has ended.
    Finish(AtShim, Started),
    /// Signal the first process, or all. A shim drops what it was asked for when the asker hangs up, so the connection is kept
    /// until the deadline, whenever the answer comes.
    Signal { shim: AtShim, number: stop_signal::Number, all: bool, deadline: Instant },
    /// Send a request.
    Request(SocketAddr, String),
}

/// What came of it.
pub enum Answer {
    /// The container goes on, or does not.
    Resumed(Result<()>),
    /// The command runs.
    Started(Result<Started>),
    /// It ended with this status.
    Finished(Result<u32>),
    /// The shim has signalled.
    Signalled(Result<bool>),
    /// The pod answered with this status.
    Answered(io::Result<u16>),
}

impl Job {
    fn run(self, until: Instant) -> Answer {
        match self {
            Job::Resume(AtShim { socket, container }) => {
                let shim = ShimClient::connect(&socket, &container.namespace, until);
                Answer::Resumed(shim.and_then(|shim| shim.resume(&container.id)))
            }
            Job::Start(AtShim { socket, container }, process) => {
                Answer::Started(exec::start(&socket, &container, &process, until))
            }
            Job::Finish(AtShim { socket, container }, started) => {
                Answer::Finished(exec::finish(&socket, &container, &started, until))
            }
            Job::Signal { shim: AtShim { socket, container }, number, all, deadline } => {
                Answer::Signalled(ttrpc::kill(&socket, &container, number, all, until, deadline))
            }
            Job::Request(to, text) => Answer::Answered(http::ask(to, &text, until)),
        }
    }
}

/// One thing to do, and for whom.
struct Task {
    of: usize,
    job: Job,
    until: Instant,
}

/// Threads that take work from one queue. They are started when there is work, and end with the queue.
struct Pool {
    queue: Sender<Task>,
    taken: Arc<Mutex<Receiver<Task>>>,
    threads: usize,
    most: usize,
}

impl Pool {
    fn new(most: usize) -> Pool {
        let (queue, taken) = channel();
        Pool { queue, taken: Arc::new(Mutex::new(taken)), threads: 0, most }
    }
}

/// Work for threads, and its answers.
pub struct Work {
    shims: Pool,
    pods: Pool,
    answer: Sender<(usize, Answer)>,
    answers: Receiver<(usize, Answer)>,
    /// Readable when there is an answer.
    reader: File,
    writer: Arc<File>,
}

impl Work {
    /// Nothing to do as yet.
    pub fn new() -> io::Result<Work> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (answer, answers) = channel();
        Ok(Work {
            shims: Pool::new(MOST_SHIMS),
            pods: Pool::new(MOST_PODS),
            answer,
            answers,
            reader: reader.into(),
            writer: Arc::new(writer.into()),
        })
    }

    /// Has something done. False if there is no thread to do it.
    pub fn begin(&mut self, of: usize, job: Job, until: Instant) -> bool {
        let pool = if matches!(job, Job::Request(..)) { &mut self.pods } else { &mut self.shims };
        if pool.threads < pool.most {
            let (taken, answer, writer) = (pool.taken.clone(), self.answer.clone(), self.writer.clone());
            let work = move || {
                loop {
                    let next = locked(&taken).recv();
                    let Ok(Task { of, job, until }) = next else { return };
                    let gone = answer.send((of, job.run(until))).is_err();
                    // A full pipe is readable, which is all that this is for.
                    let _ = (&*writer).write(&[0]);
                    if gone {
                        return;
                    }
                }
            };
            pool.threads += usize::from(std::thread::Builder::new().spawn(work).is_ok());
        }
        pool.threads > 0 && pool.queue.send(Task { of, job, until }).is_ok()
    }

    /// Readable when there is an answer.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// What was answered since.
    pub fn answers(&self) -> Vec<(usize, Answer)> {
        while matches!((&self.reader).read(&mut [0; 64]), Ok(64)) {}
        self.answers.try_iter().collect()
    }
}
