//! A program that stays between attempts (`keep_warm: process`): it is started with the
//! one argument `warm`, reads jobs as JSON lines from standard input, and answers on
//! standard output; what it has to say goes to standard error. What was loaded for one
//! job may be used again by a later one that names the same content.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

/// How many loaded things are kept; the longest unused goes.
const KEPT: usize = 8;

/// Whether standard output is the protocol's.
static SERVING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

#[derive(Default)]
struct State {
    /// What each path of the current job holds.
    contents: BTreeMap<PathBuf, String>,
    /// The current job's variables.
    variables: BTreeMap<String, String>,
    /// What was loaded, by its type and content; the last used at the end.
    kept: VecDeque<(TypeId, String, Rc<dyn Any>)>,
}

#[derive(Deserialize)]
struct Job {
    id: u64,
    arguments: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    #[serde(default)]
    inputs: BTreeMap<String, Input>,
}

#[derive(Deserialize)]
struct Input {
    path: PathBuf,
    content: String,
}

/// Whether this program was started to stay.
pub fn is_asked() -> bool {
    std::env::args_os().skip(1).eq([OsString::from("warm")])
}

/// Whether this program stays: standard output is not for results then.
pub fn is_serving() -> bool {
    SERVING.load(Ordering::Relaxed)
}

/// Carries out jobs until standard input ends. `run` is given a job's arguments and
/// gives its exit code.
pub fn serve(run: impl Fn(&[String]) -> u8) -> ExitCode {
    crate::device::settle();
    SERVING.store(true, Ordering::Relaxed);
    let mut output = std::io::stdout();
    if writeln!(output, r#"{{"ready":true}}"#).is_err() {
        return ExitCode::FAILURE;
    }
    for line in std::io::stdin().lock().lines() {
        let job: Job = match line
            .map_err(|e| e.to_string())
            .and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()))
        {
            Ok(job) => job,
            Err(error) => {
                eprintln!("error: no job: {error}");
                return ExitCode::from(2);
            }
        };
        let exit_code = match std::env::set_current_dir(&job.folder) {
            Ok(()) => {
                STATE.with_borrow_mut(|state| {
                    let inputs = job.inputs.into_values();
                    state.contents = inputs.map(|input| (input.path, input.content)).collect();
                    state.variables = job.environment;
                });
                run(&job.arguments)
            }
            Err(error) => {
                eprintln!("error: cannot work in {}: {error}", job.folder.display());
                1
            }
        };
        STATE.with_borrow_mut(|state| {
            state.contents.clear();
            state.variables.clear();
        });
        // The folder is taken away once the answer is there.
        let _ = std::env::set_current_dir("/");
        if writeln!(output, r#"{{"id":{},"exit_code":{exit_code}}}"#, job.id).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// A variable of the current job, or of this process.
pub fn variable(name: &str) -> Option<OsString> {
    let own = STATE.with_borrow(|state| state.variables.get(name).map(OsString::from));
    own.or_else(|| std::env::var_os(name))
}

/// What `load` gives for `path`: that of an earlier job where it named the same content.
///
/// # Errors
/// Those of `load`.
pub fn kept<T: 'static, E>(path: &Path, load: impl FnOnce() -> Result<T, E>) -> Result<Rc<T>, E> {
    let content = STATE.with_borrow(|state| state.contents.get(path).cloned());
    let Some(content) = content else {
        return load().map(Rc::new);
    };
    let found = STATE.with_borrow_mut(|state| {
        let is_it = |(of, at, _): &(TypeId, String, _)| *of == TypeId::of::<T>() && *at == content;
        let place = state.kept.iter().position(is_it)?;
        let found = state.kept.remove(place)?;
        let value = found.2.clone().downcast::<T>().ok();
        state.kept.push_back(found);
        value
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let loaded = load().map(Rc::new)?;
    STATE.with_borrow_mut(|state| {
        if state.kept.len() >= KEPT {
            state.kept.pop_front();
        }
        let value: Rc<dyn Any> = loaded.clone();
        state.kept.push_back((TypeId::of::<T>(), content, value));
    });
    Ok(loaded)
}
