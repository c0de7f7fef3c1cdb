//! Twenty thousand inputs, made from the project's good and wrong files by a generator
//! that is the same on every machine. None may panic, and what one costs goes by its
//! size: memory at the most, and allocations in all, which is what work is counted by
//! here. `fuzz/` runs the same entry under libFuzzer.
//!
//! What a fuzzer has found once stands in `fuzzed/`.

#![allow(clippy::disallowed_macros, reason = "a test says what it measured")]
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its files, and counts what is allocated"
)]

mod entry;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts bytes that are held, the most of them, and allocations.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(held, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; only counters are
// changed beside it, and they do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Inputs of one run.
const INPUTS: usize = 20_000;

/// Most bytes that an input may hold at one time: so many, and so many for each of its
/// bytes. Aliases repeat values, within a budget that goes by the size too.
const MEMORY: (usize, usize) = (4 << 20, 400);

/// Most allocations of an input.
const WORK: (usize, usize) = (100_000, 16);

/// Most diagnostics: errors of the check and of the text, warnings by size.
const FOUND: (usize, usize) = (600, 1);

/// Numbers that look random: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn range(&mut self, bytes: &[u8], most: usize) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let length = self.below(most).min(bytes.len() - start);
        start..start + length
    }
}

/// Pieces that mean something to YAML, or to a pipeline.
const TOKENS: &[&str] = &[
    "${{",
    "}}",
    "$[[",
    "]]",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    ": ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "|",
    ">-",
    "#",
    "\n---\n",
    "\n...\n",
    "%YAML 1.2\n",
    "!!str ",
    "\t",
    "\r\n",
    "\u{feff}",
    "\u{202e}",
    "\0",
    "\u{1b}[2J",
    "é",
    "type: pipeline\n",
    "jobs:\n",
    "inputs:\n",
    "outputs:\n",
    "command: ",
    "component: ./parts/pipe.yml",
    "component: fuzzed.yml\n",
    "type: sweep",
    "${{parent.inputs.x}}",
    "${{parent.jobs.a.outputs.o}}",
    "${{inputs.x}}",
    "depends_on: ",
    "settings: {on_init: a}\n",
    "{type: integer, min: 3, max: 1}",
    "1e999",
    "0x_",
    "-.5",
    "null",
    "~",
    "yes",
    "2026-01-02",
    "\n#### parts/x.yml\n",
    "# set: inputs.x=1\n",
    "# set: jobs.a.command=x\n",
    "# target: image\n",
    "# target: process\n",
];

/// `seed`, changed once.
fn changed(mut seed: Vec<u8>, others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let insert = |seed: &mut Vec<u8>, at: usize, what: &[u8]| {
        seed.splice(at..at, what.iter().copied());
    };
    match random.below(16) {
        0 if !seed.is_empty() => {
            let at = random.below(seed.len());
            seed[at] ^= 1 << random.below(8);
        }
        1 if !seed.is_empty() => {
            let at = random.below(seed.len());
            seed[at] = u8::try_from(random.below(256)).unwrap();
        }
        2 => {
            let range = random.range(&seed, 40);
            seed.drain(range);
        }
        3 => {
            let range = random.range(&seed, 200);
            let copy = seed[range].to_vec();
            let at = random.below(seed.len() + 1);
            insert(&mut seed, at, &copy);
        }
        4 => {
            let end = random.below(seed.len() + 1);
            seed.truncate(end);
        }
        5 | 6 => {
            let mut lines: Vec<&[u8]> = seed.split_inclusive(|byte| *byte == b'\n').collect();
            if lines.len() > 1 {
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                match random.below(3) {
                    0 => lines.swap(a, b),
                    1 => drop(lines.remove(a)),
                    _ => lines.insert(b, lines[a]),
                }
            }
            seed = lines.concat();
        }
        7 => {
            let lines: Vec<&[u8]> = seed.split_inclusive(|byte| *byte == b'\n').collect();
            let at = random.below(lines.len().max(1));
            let indent = [&b" "[..], b"  ", b"\t", b"    "][random.below(4)];
            let lines = lines.iter().enumerate().map(|(i, line)| match i == at {
                true => [indent, line].concat(),
                false => line.to_vec(),
            });
            seed = lines.collect::<Vec<_>>().concat();
        }
        8 | 9 => {
            let other = &others[random.below(others.len())];
            let range = random.range(other, 120);
            let at = random.below(seed.len() + 1);
            insert(&mut seed, at, &other[range]);
        }
        10 => {
            // Deep nesting.
            let deep = ["{a: ", "[", "a:\n ", "- ", "? ", "${{", "$[["][random.below(7)];
            let at = random.below(seed.len() + 1);
            let times = random.below(300);
            insert(&mut seed, at, deep.repeat(times).as_bytes());
        }
        11 => {
            // A huge scalar.
            let filler = ["x", "é", " ", "\n", "\\x41", "''", "${{a}}"][random.below(7)];
            let at = random.below(seed.len() + 1);
            let times = 1 << random.below(14);
            insert(&mut seed, at, filler.repeat(times).as_bytes());
        }
        12 => {
            // One line many times, each with another name.
            let kinds = [
                "  s{}: {command: echo, depends_on: [s1, t]}\n",
                "  s{}: {comand: echo}\n",
                "  i{}: ${{parent.inputs.y{}}}\n",
                "k{}: &k{} [*a, *a]\n",
                "  s{}: {component: ./parts/write.yml}\n",
                "  s{}: {<<: *a, retry: x}\n",
                "---\nname: n{}\n",
                "  s{}: {command: \"${{inputs.a{}}} ${{outputs.b}}\"}\n",
            ];
            let kind = kinds[random.below(kinds.len())];
            let most = 1 << random.below(11);
            let times = random.below(most);
            let lines: String = (0..times)
                .map(|i| kind.replace("{}", &i.to_string()))
                .collect();
            let at = random.below(seed.len() + 1);
            insert(&mut seed, at, lines.as_bytes());
        }
        _ => {
            let token = TOKENS[random.below(TOKENS.len())];
            let at = random.below(seed.len() + 1);
            insert(&mut seed, at, token.as_bytes());
        }
    }
    seed
}

fn files(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

/// The worst of what inputs cost, by the bound that they come nearest to.
#[derive(Debug, Default)]
struct Worst {
    memory: usize,
    work: usize,
    found: usize,
}

impl Worst {
    /// Runs `bytes`, and fails where they cost more than their size allows.
    fn run(&mut self, bytes: &[u8], parts: &dyn Fn(&str) -> Option<Vec<u8>>, name: &str) {
        let held = HELD.load(Relaxed);
        MOST.store(held, Relaxed);
        let before = ALLOCATIONS.load(Relaxed);
        let outcome = entry::fuzz(bytes, parts);
        let memory = MOST.load(Relaxed) - held;
        let work = ALLOCATIONS.load(Relaxed) - before;
        let allowed = |(least, each): (usize, usize)| least + each * bytes.len();
        let size = bytes.len();
        assert!(
            memory <= allowed(MEMORY),
            "{name}: {memory} bytes for {size}"
        );
        assert!(
            work <= allowed(WORK),
            "{name}: {work} allocations for {size} bytes"
        );
        let found = outcome.found.len();
        assert!(
            found <= allowed(FOUND),
            "{name}: {found} diagnostics for {size} bytes"
        );
        let share = |cost: usize, bound| cost * 1_000 / allowed(bound);
        self.memory = self.memory.max(share(memory, MEMORY));
        self.work = self.work.max(share(work, WORK));
        self.found = self.found.max(share(found, FOUND));
    }
}

/// One test alone: what others allocate at the same time would count as well.
#[test]
fn no_bytes_panic_and_each_costs_by_its_size() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = BTreeMap::new();
    for folder in ["tests/wrong", "tests/right"] {
        files(&here.join(folder), &mut seeds);
    }
    let root = here.join("../..");
    for file in ["pipelines.yaml", "steps/post/post.yml"] {
        seeds.insert(file.into(), std::fs::read(root.join(file)).unwrap());
    }
    let parts = |path: &str| seeds.get(&here.join("tests/wrong").join(path)).cloned();
    let mut worst = Worst::default();
    let mut regressions = BTreeMap::new();
    files(&here.join("tests/fuzzed"), &mut regressions);
    for (path, bytes) in seeds.iter().chain(&regressions) {
        worst.run(bytes, &parts, &path.to_string_lossy());
    }
    let seeds: Vec<Vec<u8>> = seeds.values().cloned().collect();
    for number in 0..INPUTS {
        let mut random = Random(number as u64);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(6) {
            bytes = changed(bytes, &seeds, &mut random);
        }
        bytes.truncate(200_000);
        // The input that a panic is about.
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            worst.run(&bytes, &parts, &format!("input {number}"));
        }));
        if let Err(panic) = shown {
            let path = std::env::temp_dir().join(format!("auria-fuzz-{number}.yml"));
            std::fs::write(&path, &bytes).unwrap();
            eprintln!("input {number} is in {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
    eprintln!("{INPUTS} inputs; thousandths of the bounds at the most: {worst:?}");
}
