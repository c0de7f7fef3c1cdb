//! The launcher's side: borrows a warm program, gives it one attempt's work, carries
//! what it says into the step's log, and stops it when it is told to.

use super::{Answer, Ask, BACK, Done, Job, LONGEST_LINE};
use crate::command::{EndedBy, Finished, Limits};
use crate::stop::{Stop, Stopped};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;

/// A program that is not there after so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long the executor may take to say how a program ended.
const TOLD: Duration = Duration::from_secs(10);

/// Which program is wanted, and from whom.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Where the executor lends.
    pub(crate) socket: PathBuf,
    /// What is asked for.
    pub(crate) ask: Ask,
    /// What it is to do.
    pub(crate) job: Job,
}

/// A program that is lent.
#[derive(Debug)]
pub(crate) struct Borrowed {
    /// Lent until this ends.
    connection: UnixStream,
    process: i32,
    input: pipe::Sender,
    output: pipe::Receiver,
    errors: pipe::Receiver,
}

impl Borrowed {
    /// Borrows what is `wanted`.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) async fn of(wanted: &Wanted) -> Result<Self, String> {
        let (socket, ask) = (wanted.socket.clone(), wanted.ask.clone());
        let asked = tokio::task::spawn_blocking(move || ask_at(&socket, &ask)).await;
        let (connection, answer, pipes) = asked
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| format!("the server does not lend one: {error}"))?;
        let process = match answer {
            Answer::Lent { process } => process,
            Answer::Refused { why } => return Err(why),
            Answer::Ended { .. } => return Err("it has just ended".to_owned()),
        };
        let [input, output, errors]: [OwnedFd; 3] = pipes
            .try_into()
            .map_err(|_| "the server lent one without its pipes".to_owned())?;
        let open = || {
            Ok::<_, io::Error>(Self {
                connection,
                process,
                input: pipe::Sender::from_owned_fd(input)?,
                output: pipe::Receiver::from_owned_fd(output)?,
                errors: pipe::Receiver::from_owned_fd(errors)?,
            })
        };
        open().map_err(|error| error.to_string())
    }

    /// Lets it do `job`; what it says goes to `log`.
    pub(crate) async fn carry_out(
        self,
        job: &Job,
        log: OwnedFd,
        limits: Limits,
        mut stopped: Stopped,
    ) -> Finished {
        let Self {
            connection,
            process,
            mut input,
            output,
            mut errors,
        } = self;
        let began = Instant::now();
        let mut log = pipe::Sender::from_owned_fd(log).ok();
        let mut ended_by = None;
        let mut kill_at: Option<Instant> = None;
        let mut seen: Option<Stop> = None;
        let answered = {
            let talk = async {
                let mut line = serde_json::to_vec(job).map_err(io::Error::other)?;
                line.push(b'\n');
                input.write_all(&line).await?;
                answer(output).await
            };
            let mut talk = std::pin::pin!(talk);
            let timeout_at = limits.timeout.map(|timeout| began + timeout);
            let mut said = vec![0; 64 * 1024];
            let mut open = true;
            loop {
                tokio::select! {
                    answered = &mut talk => break Some(answered),
                    length = errors.read(&mut said), if open => match length {
                        Ok(length) if length > 0 => write(&mut log, &said[..length]).await,
                        _ => open = false,
                    },
                    stop = stopped.changed_from(seen) => {
                        seen = Some(stop);
                        if ended_by.is_none() {
                            ended_by = Some(EndedBy::Stop(stop.cause));
                            let _ = killpg(Pid::from_raw(process), Signal::SIGTERM);
                        }
                        kill_at = Some(kill_at.map_or(stop.kill_at, |at| at.min(stop.kill_at)));
                    }
                    () = until(timeout_at.filter(|_| ended_by.is_none())) => {
                        ended_by = Some(EndedBy::Timeout);
                        kill_at = Some(Instant::now() + limits.grace);
                        let _ = killpg(Pid::from_raw(process), Signal::SIGTERM);
                    }
                    () = until(kill_at) => break None,
                }
            }
        };
        let ran = began.elapsed();
        // What it said before its answer is in the pipe by now.
        drain(&mut errors, &mut log).await;
        let finished = |code, signal, out_of_memory| Finished {
            code,
            signal,
            ran,
            ended_by,
            out_of_memory,
            left_behind: 0,
        };
        match answered {
            Some(Ok(done)) if done.id == job.id => {
                if done.exit_code == 0 && ended_by.is_none() {
                    let _ = (&connection).write_all(BACK.as_bytes());
                }
                finished(done.exit_code, None, false)
            }
            Some(Ok(done)) => {
                let said = format!(
                    "the warm program answered for {} and not {}\n",
                    done.id, job.id
                );
                write(&mut log, said.as_bytes()).await;
                finished(1, None, false)
            }
            Some(Err(error)) => {
                let told = tokio::task::spawn_blocking(move || how_it_ended(&connection)).await;
                match told {
                    Ok(Some(Answer::Ended {
                        code,
                        signal,
                        out_of_memory,
                    })) => finished(code, signal, out_of_memory && ended_by.is_none()),
                    _ => {
                        let said = format!("the warm program does not answer: {error}\n");
                        write(&mut log, said.as_bytes()).await;
                        finished(1, None, false)
                    }
                }
            }
            // The executor ends it with the connection.
            None => finished(137, Some(Signal::SIGKILL as i32), false),
        }
    }
}

/// The program's next line; an error where it has none any more.
async fn answer(output: pipe::Receiver) -> io::Result<Done> {
    let mut line = Vec::new();
    let mut output = BufReader::new(output.take(LONGEST_LINE as u64));
    if output.read_until(b'\n', &mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(|error| {
        let shown = String::from_utf8_lossy(&line[..line.len().min(200)]);
        io::Error::other(format!("{error}: {}", shown.trim_end()))
    })
}

async fn write(log: &mut Option<pipe::Sender>, bytes: &[u8]) {
    if let Some(open) = log
        && let Err(error) = open.write_all(bytes).await
    {
        tracing::warn!("the step's log takes nothing more: {error}");
        *log = None;
    }
}

async fn drain(errors: &mut pipe::Receiver, log: &mut Option<pipe::Sender>) {
    let mut said = vec![0; 64 * 1024];
    while let Ok(length) = errors.try_read(&mut said) {
        if length == 0 {
            break;
        }
        write(log, &said[..length]).await;
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Asks, and waits for the answer. Blocks.
#[expect(
    unsafe_code,
    reason = "descriptors arrive as numbers that nobody owns yet"
)]
fn ask_at(socket: &Path, ask: &Ask) -> io::Result<(UnixStream, Answer, Vec<OwnedFd>)> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(ask).map_err(io::Error::other)?;
    line.push(b'\n');
    connection.write_all(&line)?;
    let mut bytes = vec![0; 64 * 1024];
    let mut space = nix::cmsg_space!([RawFd; 3]);
    let (length, pipes) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut pipes = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just made these descriptors for this process.
                pipes.extend(
                    numbers
                        .into_iter()
                        .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
                );
            }
        }
        (message.bytes, pipes)
    };
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = serde_json::from_slice(&bytes[..length]).map_err(io::Error::other)?;
    Ok((connection, answer, pipes))
}

/// What the executor says of a program that has ended. Blocks.
fn how_it_ended(connection: &UnixStream) -> Option<Answer> {
    use std::io::BufRead;
    connection.set_read_timeout(Some(TOLD)).ok()?;
    let mut line = String::new();
    io::BufReader::new(connection).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}
