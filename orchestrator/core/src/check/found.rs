//! What a check has found so far. Errors have a bound: behind the first few hundred
//! a file is better mended than read on.

use crate::diagnostic::Diagnostic;

/// Most errors that one check lists.
pub(super) const MAX_ERRORS: usize = 500;

/// Diagnostics in the order in which they were found.
#[derive(Default)]
pub(crate) struct Found {
    list: Vec<Diagnostic>,
    errors: usize,
}

impl Found {
    pub(super) fn push(&mut self, found: Diagnostic) {
        if found.is_error() {
            self.errors += 1;
            if self.errors > MAX_ERRORS {
                return;
            }
        }
        self.list.push(found);
    }

    pub(super) fn extend(&mut self, found: impl IntoIterator<Item = Diagnostic>) {
        found.into_iter().for_each(|found| self.push(found));
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// How many errors there are by now.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Whether no further error would be listed, so that looking for one is in vain.
    pub(super) fn is_full(&self) -> bool {
        self.errors > MAX_ERRORS
    }

    /// One that was found before, to be added to.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Diagnostic> {
        self.list.get_mut(at)
    }

    /// Drops what was found from `from` on and does not hold, as `holds` says. Those
    /// that go still count, since the file is wrong all the same.
    pub(super) fn retain_from(&mut self, from: usize, holds: impl Fn(&Diagnostic) -> bool) {
        let tail = self.list.split_off(from.min(self.list.len()));
        self.list.extend(tail.into_iter().filter(holds));
    }

    pub(super) fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }
}
