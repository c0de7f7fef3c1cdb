//! The steps of a run as rows: what is known of each, in the order of the plan.

use auria_core::outcome::Status;
use auria_core::{StepPath, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// A step as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub path: StepPath,
    /// Its status.
    pub status: Status,
    /// When its work began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Attempts so far.
    pub attempts: u32,
    /// What it waits for, why it failed, whose outputs stand for it.
    pub note: Option<String>,
    /// Last line of its log.
    pub line: Option<String>,
}

/// Every step of a run.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    places: HashMap<StepPath, usize>,
    counts: BTreeMap<Status, usize>,
    width: usize,
}

/// Steps whose names are looked at for the width of their column, and its most.
const WIDTH_OF: (usize, usize) = (200, 40);

impl Rows {
    /// Rows for steps in the order of the plan.
    pub fn new(paths: impl IntoIterator<Item = StepPath>) -> Self {
        let rows: Vec<Row> = paths
            .into_iter()
            .map(|path| Row {
                path,
                status: Status::NotStarted,
                started: None,
                ended: None,
                attempts: 0,
                note: None,
                line: None,
            })
            .collect();
        let places = rows
            .iter()
            .enumerate()
            .map(|(i, row)| (row.path.clone(), i))
            .collect();
        let counts = BTreeMap::from([(Status::NotStarted, rows.len())]);
        let (most, widest) = WIDTH_OF;
        let widths = rows.iter().take(most).map(|row| row.path.display().len());
        let width = widths.max().unwrap_or(0).min(widest);
        Self {
            rows,
            places,
            counts,
            width,
        }
    }

    /// The width of a column of names, in characters.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All of them.
    pub fn all(&self) -> &[Row] {
        &self.rows
    }

    /// The row of `path`.
    pub fn get(&self, path: &StepPath) -> Option<&Row> {
        self.places.get(path).map(|&place| &self.rows[place])
    }

    /// How many steps are in `status`.
    pub fn count(&self, status: Status) -> usize {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// Puts `row` in the place of the one before; says whether its status or note changed.
    pub fn put(&mut self, mut row: Row) -> bool {
        let Some(&place) = self.places.get(&row.path) else {
            return false;
        };
        let before = &mut self.rows[place];
        if row.line.is_none() {
            row.line = before.line.take();
        }
        let changed = before.status != row.status
            || before.note != row.note
            || before.attempts != row.attempts;
        if before.status != row.status {
            if let Some(count) = self.counts.get_mut(&before.status) {
                *count = count.saturating_sub(1);
            }
            *self.counts.entry(row.status).or_default() += 1;
        }
        *before = row;
        changed
    }

    /// Notes the last line of a step's log.
    pub fn line(&mut self, path: &StepPath, line: &str) {
        if let Some(&place) = self.places.get(path) {
            self.rows[place].line = Some(line.to_owned());
        }
    }
}
