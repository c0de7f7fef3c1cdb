//! Cron expressions of five fields: `minute hour day-of-month month day-of-week`, with lists,
//! ranges, steps and names. Which days and times of day they mean; no clock and no zone here.

use std::collections::BTreeSet;

/// A cron expression, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    pub(super) minutes: BTreeSet<i8>,
    pub(super) hours: BTreeSet<i8>,
    days: BTreeSet<i8>,
    months: BTreeSet<i8>,
    /// 0 is Sunday.
    weekdays: BTreeSet<i8>,
    /// Where both are restricted, a day needs one of them alone, as cron has it.
    either: bool,
    /// Whether the hour is left open: then it means passing time and not a time of day.
    pub(super) every_hour: bool,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!(
                "`{text}` has {} fields, and a cron expression five: minute hour day month weekday",
                fields.len()
            ));
        };
        let mut weekdays_found = field(weekdays, 0, 7, &WEEKDAYS, 0)?;
        if weekdays_found.remove(&7) {
            weekdays_found.insert(0);
        }
        let cron = Self {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            weekdays: weekdays_found,
            either: !days.starts_with('*') && !weekdays.starts_with('*'),
            every_hour: hours.starts_with('*'),
        };
        let longest = |month: i8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let ever = |month: &i8| cron.days.iter().any(|day| *day <= longest(*month));
        if !cron.either && !cron.months.iter().any(ever) {
            return Err(format!("`{text}` means a day that never comes"));
        }
        Ok(cron)
    }

    /// Whether it means this day; `weekday` counts from Sunday, which is 0.
    pub(super) fn is_on(&self, month: i8, day: i8, weekday: i8) -> bool {
        let (by_day, by_weekday) = (self.days.contains(&day), self.weekdays.contains(&weekday));
        let on = if self.either {
            by_day || by_weekday
        } else {
            by_day && by_weekday
        };
        on && self.months.contains(&month)
    }
}

fn field(
    text: &str,
    least: i8,
    most: i8,
    names: &[&str],
    first: i8,
) -> Result<BTreeSet<i8>, String> {
    let wrong = || format!("`{text}` is no field of a cron expression between {least} and {most}");
    let number = |text: &str| -> Result<i8, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(place) = names.iter().position(|name| *name == lower) {
            return i8::try_from(place)
                .map(|place| place + first)
                .map_err(|_| wrong());
        }
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value: i8 = if plain {
            text.parse().map_err(|_| wrong())?
        } else {
            return Err(wrong());
        };
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(wrong())
        }
    };
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (least, most),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            // `5/15` goes on to the end.
            (one, None) if step.is_some() => (number(one)?, most),
            (one, None) => (number(one)?, number(one)?),
        };
        let step = match step {
            Some(step) => step
                .parse::<usize>()
                .ok()
                .filter(|step| *step > 0)
                .ok_or_else(wrong)?,
            None => 1,
        };
        if from > to {
            return Err(wrong());
        }
        found.extend((from..=to).step_by(step));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Cron;

    #[test]
    fn fields_are_read_as_cron_reads_them() {
        let cron = Cron::read("*/15 9-17 1,15 jan-mar *").unwrap();
        assert_eq!(
            cron.minutes.iter().copied().collect::<Vec<_>>(),
            [0, 15, 30, 45]
        );
        assert_eq!(cron.hours.len(), 9);
        assert!(cron.is_on(1, 15, 3) && !cron.is_on(4, 15, 3) && !cron.is_on(1, 2, 3));
        // Both days given: one of them is enough.
        let cron = Cron::read("0 0 13 * fri").unwrap();
        assert!(cron.is_on(5, 13, 1) && cron.is_on(5, 14, 5) && !cron.is_on(5, 14, 1));
        assert!(Cron::read("0 0 * * 7").unwrap().is_on(1, 1, 0));
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "0 0 31 2 *",
            "0 0 30 feb *",
            "+5 * * * *",
            "1,, * * * *",
        ] {
            Cron::read(wrong).unwrap_err();
        }
        Cron::read("0 0 29 2 *").unwrap();
    }
}
