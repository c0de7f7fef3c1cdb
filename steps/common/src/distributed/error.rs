//! What can go wrong between processes, and the way out.

use std::time::Duration;

/// Why a group of processes is none, or is none any more.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A variable that says a process its place is missing or wrong.
    #[error(
        "WORLD_SIZE says that {size} processes train together, and {name} {problem}; \
         `distribution: {{type: pytorch}}` and torchrun set it"
    )]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
        /// `WORLD_SIZE`, as it stands.
        size: String,
    },
    /// The program can train alone only.
    #[error(
        "this program was built where Gloo's headers were not, and trains in one process alone: \
         `cargo xtask libtorch` brings them (Debian: libgloo-dev), then build it again"
    )]
    NotBuilt,
    /// The members did not find each other.
    #[error(
        "rank {rank} of {size} did not meet the others at {place} within {} s: {problem}; all of \
         them must be started, and reach rank 0 there",
        timeout.as_secs()
    )]
    Meet {
        /// This process.
        rank: usize,
        /// How many processes there should be.
        size: usize,
        /// Where rank 0 is to be found.
        place: String,
        /// How long was waited.
        timeout: Duration,
        /// What libtorch said.
        problem: String,
    },
    /// A member did not come along.
    #[error(
        "rank {rank} of {size} lost the others {during}: {}{problem}",
        said(gone)
    )]
    Lost {
        /// This process.
        rank: usize,
        /// How many processes there were.
        size: usize,
        /// What they were doing together.
        during: &'static str,
        /// Those that said nothing any more.
        gone: Vec<usize>,
        /// What libtorch said.
        problem: String,
    },
    /// A member trains something else.
    #[error(
        "rank {rank} trains with other data or settings than rank 0; give all of them the same \
         command and the same inputs"
    )]
    Differs {
        /// This process.
        rank: usize,
    },
    /// There are more members than there is to do.
    #[error("{size} processes cannot share {batch} sequences: start at most {batch}")]
    TooMany {
        /// How many processes there are.
        size: usize,
        /// How many sequences a step has.
        batch: i64,
    },
    /// The state of rank 0 could not be read, or could not be taken over.
    #[error("rank {rank} cannot take over where rank 0 is: {problem}")]
    State {
        /// This process.
        rank: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A GPU was asked for.
    #[error(
        "gradients of several processes are reduced on the CPU, and --device cuda was asked for: \
         say --device cpu, or train in one process"
    )]
    NoCuda,
}

fn said(gone: &[usize]) -> String {
    let names: Vec<String> = gone.iter().map(ToString::to_string).collect();
    match names.len() {
        0 => String::new(),
        1 => format!("rank {} is gone; ", names[0]),
        _ => format!("ranks {} are gone; ", names.join(", ")),
    }
}

/// What libtorch said, without the frames that it was said in.
pub(super) fn plain(problem: &str) -> String {
    let end = ["\nException raised from", "\nframe #0"]
        .iter()
        .filter_map(|mark| problem.find(mark))
        .min();
    let mut text = problem[..end.unwrap_or(problem.len())].trim();
    // Where in Gloo's own sources it was.
    if text.starts_with("[/")
        && let Some((_, rest)) = text.split_once("] ")
    {
        text = rest;
    }
    text.trim_end_matches('.').replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_who_is_gone_and_not_the_frames() {
        let lost = |gone| GroupError::Lost {
            rank: 0,
            size: 3,
            during: "in step 7",
            gone,
            problem: plain(
                "[/gloo/pair.cc:5] closed.\nException raised from f at f.cpp:1\nframe #0: g",
            ),
        };
        assert_eq!(
            lost(vec![2]).to_string(),
            "rank 0 of 3 lost the others in step 7: rank 2 is gone; closed"
        );
        assert_eq!(
            lost(vec![1, 2]).to_string(),
            "rank 0 of 3 lost the others in step 7: ranks 1, 2 are gone; closed"
        );
        assert!(lost(Vec::new()).to_string().ends_with("in step 7: closed"));
    }
}
