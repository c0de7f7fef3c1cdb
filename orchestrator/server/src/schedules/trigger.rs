//! When a schedule fires: cron and recurrence as Azure ML writes them, in a time zone of IANA
//! or of Windows. It has no clock: the time is an argument.
//!
//! Where clocks go forward, a time of day that does not come is taken as much later; where
//! they go back, one that comes twice is taken once, the first time. What leaves the hour open
//! (`*/10 * * * *`) means passing time: it fires each time that such a moment comes.

use super::cron::Cron;
use super::windows;
use auria_core::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp as Moment, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Days that are looked ahead for the next tick: a leap day may be eight years away.
const AHEAD: i32 = 366 * 9;

/// `trigger` of a schedule file.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// By a cron expression.
    Cron {
        /// Five fields.
        expression: String,
        /// No tick before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_time: Option<String>,
        /// No tick after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_time: Option<String>,
        /// Of IANA or of Windows; UTC where none is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<String>,
    },
    /// Each so many minutes, hours, days, weeks or months.
    Recurrence {
        /// Which.
        frequency: Frequency,
        /// How many.
        interval: u32,
        /// At which times.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule: Option<Times>,
        /// No tick before it; what intervals are counted from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_time: Option<String>,
        /// No tick after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_time: Option<String>,
        /// Of IANA or of Windows; UTC where none is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<String>,
    },
}

/// Of a recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frequency {
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks, from Monday.
    Week,
    /// Months.
    Month,
}

/// Times of a recurrence by days, weeks or months.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    hours: OneOrMany<i8>,
    minutes: OneOrMany<i8>,
    week_days: OneOrMany<String>,
    month_days: OneOrMany<i8>,
}

#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl Times {
    /// As a person says it: ` at 6:00, 18:00 on Monday`.
    #[must_use]
    pub fn told(&self) -> String {
        let (hours, minutes) = (self.hours.all(), self.minutes.all());
        let minutes = if minutes.is_empty() { vec![0] } else { minutes };
        let times = hours.iter().flat_map(|hour| {
            let times = minutes.iter();
            times.map(move |minute| format!("{hour}:{minute:02}"))
        });
        let times: Vec<String> = times.collect();
        let mut days = self.week_days.all();
        days.extend(self.month_days.all().iter().map(|day| format!("day {day}")));
        let mut told = String::new();
        if !times.is_empty() {
            told += &format!(" at {}", times.join(", "));
        }
        if !days.is_empty() {
            told += &format!(" on {}", days.join(", "));
        }
        told
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T: Clone> OneOrMany<T> {
    fn all(&self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(all) => all.clone(),
        }
    }
}

/// A trigger that was read: it tells its ticks.
#[derive(Clone, Debug)]
pub struct Ticks {
    rule: Rule,
    zone: TimeZone,
    start: Moment,
    end: Option<Moment>,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron(Cron),
    /// Passing time.
    Every(i64),
    /// Times of some days.
    Days {
        frequency: Frequency,
        interval: i32,
        from: Date,
        times: Vec<Time>,
        weekdays: Vec<Weekday>,
        month_days: Vec<i8>,
    },
}

/// The zone of a name, of IANA or of Windows.
fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else {
        return Ok(TimeZone::UTC);
    };
    let known = windows::iana(name).unwrap_or(name);
    TimeZone::get(known).map_err(|_| {
        format!(
            "`{name}` is no time zone: use a name such as Europe/Berlin or W. Europe Standard Time"
        )
    })
}

/// A time as files write it: with an offset, or in the zone of the trigger.
fn moment(text: &str, zone: &TimeZone) -> Result<Moment, String> {
    if let Ok(moment) = text.parse::<Moment>() {
        return Ok(moment);
    }
    let civil: Result<DateTime, _> = text.parse();
    let civil = civil.map_err(|_| format!("`{text}` is no time: write 2026-01-31T06:00:00"))?;
    zone.to_timestamp(civil).map_err(|error| error.to_string())
}

fn millis(moment: Moment) -> Timestamp {
    Timestamp(moment.as_millisecond())
}

fn weekday(name: &str) -> Result<Weekday, String> {
    let all = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let lower = name.to_ascii_lowercase();
    let found = all.iter().find(|(name, _)| *name == lower);
    found
        .map(|(_, day)| *day)
        .ok_or_else(|| format!("`{name}` is no day of the week"))
}

impl Trigger {
    /// As a person says it, without its time zone: `cron 0 6 * * *`, `every 2 weeks on monday`.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Cron { expression, .. } => format!("cron {expression}"),
            Self::Recurrence {
                frequency,
                interval,
                schedule,
                ..
            } => {
                let unit = match frequency {
                    Frequency::Minute => "minute",
                    Frequency::Hour => "hour",
                    Frequency::Day => "day",
                    Frequency::Week => "week",
                    Frequency::Month => "month",
                };
                let every = match interval {
                    1 => format!("every {unit}"),
                    many => format!("every {many} {unit}s"),
                };
                let at = schedule.as_ref().map(Times::told).unwrap_or_default();
                format!("{every}{at}")
            }
        }
    }

    /// The time zone as it was said; UTC where none was.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        let (Self::Cron { time_zone, .. } | Self::Recurrence { time_zone, .. }) = self;
        time_zone.as_deref().unwrap_or("UTC")
    }

    /// Reads the trigger of a schedule that was made at `created`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn ticks(&self, created: Timestamp) -> Result<Ticks, String> {
        let (Self::Cron {
            start_time,
            end_time,
            time_zone,
            ..
        }
        | Self::Recurrence {
            start_time,
            end_time,
            time_zone,
            ..
        }) = self;
        let zone = zone(time_zone.as_deref())?;
        let read =
            |text: &Option<String>| text.as_ref().map(|text| moment(text, &zone)).transpose();
        let start = match read(start_time)? {
            Some(start) => start,
            None => Moment::from_millisecond(created.0).map_err(|error| error.to_string())?,
        };
        let end = read(end_time)?;
        if end.is_some_and(|end| end < start) {
            return Err("`end_time` is before `start_time`".to_owned());
        }
        let rule = match self {
            Self::Cron { expression, .. } => Rule::Cron(Cron::read(expression)?),
            Self::Recurrence {
                frequency,
                interval,
                schedule,
                ..
            } => recurrence(
                *frequency,
                *interval,
                schedule.clone().unwrap_or_default(),
                start,
                &zone,
            )?,
        };
        Ok(Ticks {
            rule,
            zone,
            start,
            end,
        })
    }
}

fn recurrence(
    frequency: Frequency,
    interval: u32,
    times: Times,
    start: Moment,
    zone: &TimeZone,
) -> Result<Rule, String> {
    let interval = i32::try_from(interval)
        .ok()
        .filter(|count| (1..=1000).contains(count));
    let interval = interval.ok_or("`interval` is between 1 and 1000")?;
    let (hours, minutes) = (times.hours.all(), times.minutes.all());
    let (days, month_days) = (times.week_days.all(), times.month_days.all());
    if matches!(frequency, Frequency::Minute | Frequency::Hour) {
        if !(hours.is_empty() && minutes.is_empty() && days.is_empty() && month_days.is_empty()) {
            return Err("`schedule` belongs to days, weeks and months".to_owned());
        }
        let each = if frequency == Frequency::Minute {
            60
        } else {
            3600
        };
        return Ok(Rule::Every(each * 1000 * i64::from(interval)));
    }
    let begins = zone.to_datetime(start);
    let hours = if hours.is_empty() {
        vec![begins.hour()]
    } else {
        hours
    };
    let minutes = if minutes.is_empty() {
        vec![begins.minute()]
    } else {
        minutes
    };
    let mut all = Vec::new();
    for hour in &hours {
        for minute in &minutes {
            let time = Time::new(*hour, *minute, 0, 0);
            all.push(time.map_err(|_| format!("{hour}:{minute} is no time of day"))?);
        }
    }
    all.sort_unstable();
    all.dedup();
    let mut weekdays = days
        .iter()
        .map(|name| weekday(name))
        .collect::<Result<Vec<_>, _>>()?;
    if weekdays.is_empty() && frequency == Frequency::Week {
        weekdays.push(begins.weekday());
    }
    let mut month_days = month_days;
    if month_days.iter().any(|day| !(1..=31).contains(day)) {
        return Err("`month_days` are between 1 and 31".to_owned());
    }
    if month_days.is_empty() && frequency == Frequency::Month && weekdays.is_empty() {
        month_days.push(begins.day());
    }
    Ok(Rule::Days {
        frequency,
        interval,
        from: begins.date(),
        times: all,
        weekdays,
        month_days,
    })
}

impl Ticks {
    /// The first tick after `time`; none where there is no more.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let after = Moment::from_millisecond(time.0).ok()?;
        // The start itself is a tick where it is one.
        let before_start = self.start.checked_sub(1.millisecond()).ok()?;
        let after = after.max(before_start);
        let found = match &self.rule {
            Rule::Every(each) => self.passing(after, *each),
            Rule::Cron(_) | Rule::Days { .. } => self.by_days(after),
        }?;
        self.end
            .is_none_or(|end| found <= end)
            .then(|| millis(found))
    }

    fn passing(&self, after: Moment, each: i64) -> Option<Moment> {
        let start = self.start.as_millisecond();
        let passed = after.as_millisecond().checked_sub(start)?;
        let count = if passed < 0 { 0 } else { passed / each + 1 };
        Moment::from_millisecond(start.checked_add(count.checked_mul(each)?)?).ok()
    }

    fn by_days(&self, after: Moment) -> Option<Moment> {
        // A time of day may be taken later, across midnight.
        let day: Span = 1.day();
        let mut date = self.zone.to_datetime(after).date().checked_sub(day).ok()?;
        for _ in 0..AHEAD {
            let found = self
                .of_day(date)
                .into_iter()
                .filter(|moment| *moment > after)
                .min();
            if found.is_some() {
                return found;
            }
            date = date.checked_add(day).ok()?;
        }
        None
    }

    /// The ticks that belong to a day of the zone's calendar.
    fn of_day(&self, date: Date) -> Vec<Moment> {
        match &self.rule {
            Rule::Cron(cron) => {
                let weekday = date.weekday().to_sunday_zero_offset();
                if !cron.is_on(date.month(), date.day(), weekday) {
                    return Vec::new();
                }
                let times = cron
                    .hours
                    .iter()
                    .flat_map(|hour| cron.minutes.iter().map(move |minute| (*hour, *minute)));
                times
                    .filter_map(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
                    .flat_map(|time| self.moments(date.to_datetime(time), cron.every_hour))
                    .collect()
            }
            Rule::Days {
                frequency,
                interval,
                from,
                times,
                weekdays,
                month_days,
            } => {
                if date < *from {
                    return Vec::new();
                }
                let days = (date.duration_since(*from).as_hours() / 24) as i32;
                let on = match frequency {
                    Frequency::Week => {
                        let into = i32::from(from.weekday().to_monday_zero_offset());
                        ((days + into) / 7) % interval == 0 && weekdays.contains(&date.weekday())
                    }
                    Frequency::Month => {
                        let months = (i32::from(date.year()) - i32::from(from.year())) * 12
                            + i32::from(date.month())
                            - i32::from(from.month());
                        months % interval == 0
                            && (month_days.contains(&date.day())
                                || weekdays.contains(&date.weekday()))
                    }
                    _ => {
                        days % interval == 0
                            && (weekdays.is_empty() || weekdays.contains(&date.weekday()))
                    }
                };
                if !on {
                    return Vec::new();
                }
                let times = times.iter();
                times
                    .flat_map(|time| self.moments(date.to_datetime(*time), false))
                    .collect()
            }
            Rule::Every(_) => Vec::new(),
        }
    }

    /// The moments at which the zone's clocks show `civil`.
    fn moments(&self, civil: DateTime, passing: bool) -> Vec<Moment> {
        let found = self.zone.to_ambiguous_timestamp(civil);
        match found.offset() {
            AmbiguousOffset::Unambiguous { .. } => found.compatible().into_iter().collect(),
            AmbiguousOffset::Gap { .. } if passing => Vec::new(),
            AmbiguousOffset::Fold { .. } if passing => {
                let twice = [found.earlier(), found.later()];
                twice.into_iter().flatten().collect()
            }
            // Later where there is a gap, the first of two.
            AmbiguousOffset::Gap { .. } | AmbiguousOffset::Fold { .. } => {
                found.compatible().into_iter().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trigger;
    use auria_core::Timestamp;

    fn ticks(trigger: serde_json::Value, from: &str, count: usize) -> Vec<String> {
        let trigger: Trigger = serde_json::from_value(trigger).unwrap();
        let begun: jiff::Timestamp = from.parse().unwrap();
        let mut at = Timestamp(begun.as_millisecond());
        let ticks = trigger.ticks(at).unwrap();
        let mut found = Vec::new();
        while found.len() < count
            && let Some(next) = ticks.after(at)
        {
            assert!(next > at);
            at = next;
            found.push(jiff::Timestamp::from_millisecond(at.0).unwrap().to_string());
        }
        found
    }

    fn cron(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let trigger =
            serde_json::json!({"type": "cron", "expression": expression, "time_zone": zone});
        ticks(trigger, from, count)
    }

    #[test]
    fn a_time_of_day_comes_once_each_day_when_clocks_change() {
        // Forward: 02:30 does not come on 29 March 2026, and is taken as 03:30.
        let spring = cron("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            spring,
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
        // Back: 02:30 comes twice on 25 October 2026, and is taken once.
        let autumn = cron(
            "30 2 * * *",
            "W. Europe Standard Time",
            "2026-10-24T00:00:00Z",
            3,
        );
        assert_eq!(
            autumn,
            [
                "2026-10-24T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z"
            ]
        );
    }

    #[test]
    fn passing_time_passes_when_clocks_change() {
        let spring = cron("30 * * * *", "America/New_York", "2026-03-08T06:00:00Z", 3);
        assert_eq!(
            spring,
            [
                "2026-03-08T06:30:00Z",
                "2026-03-08T07:30:00Z",
                "2026-03-08T08:30:00Z"
            ]
        );
        let autumn = cron(
            "0,30 * * * *",
            "Eastern Standard Time",
            "2026-11-01T05:00:00Z",
            4,
        );
        assert_eq!(
            autumn,
            [
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:00:00Z",
                "2026-11-01T06:30:00Z",
                "2026-11-01T07:00:00Z"
            ]
        );
    }

    #[test]
    fn recurrences_count_from_their_start() {
        let trigger = serde_json::json!({"type": "recurrence", "frequency": "week", "interval": 2,
            "schedule": {"hours": [6], "minutes": 30, "week_days": ["monday", "friday"]},
            "start_time": "2026-01-07T00:00:00", "time_zone": "Europe/Berlin"});
        assert_eq!(
            ticks(trigger, "2026-01-01T00:00:00Z", 3),
            [
                "2026-01-09T05:30:00Z",
                "2026-01-19T05:30:00Z",
                "2026-01-23T05:30:00Z"
            ]
        );
        let trigger = serde_json::json!({"type": "recurrence", "frequency": "month", "interval": 1,
            "schedule": {"hours": 0, "minutes": 0, "month_days": [31]}, "start_time": "2026-01-31T00:00:00Z"});
        assert_eq!(
            ticks(trigger, "2026-01-01T00:00:00Z", 3),
            [
                "2026-01-31T00:00:00Z",
                "2026-03-31T00:00:00Z",
                "2026-05-31T00:00:00Z"
            ]
        );
        let trigger = serde_json::json!({"type": "recurrence", "frequency": "minute", "interval": 90,
            "start_time": "2026-03-29T00:00:00Z", "end_time": "2026-03-29T03:00:00Z"});
        assert_eq!(
            ticks(trigger, "2026-03-01T00:00:00Z", 9),
            [
                "2026-03-29T00:00:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-29T03:00:00Z"
            ]
        );
        // A leap day is years away, and found.
        let leap = cron("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1);
        assert_eq!(leap, ["2104-02-29T00:00:00Z"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for wrong in [
            serde_json::json!({"type": "cron", "expression": "0 0 * * *", "time_zone": "Nowhere"}),
            serde_json::json!({"type": "cron", "expression": "0 0 * *"}),
            serde_json::json!({"type": "cron", "expression": "0 0 * * *", "start_time": "soon"}),
            serde_json::json!({"type": "recurrence", "frequency": "day", "interval": 0}),
            serde_json::json!({"type": "recurrence", "frequency": "day", "interval": 1, "schedule": {"hours": 24}}),
            serde_json::json!({"type": "recurrence", "frequency": "minute", "interval": 1, "schedule": {"hours": 1}}),
        ] {
            let trigger: Trigger = serde_json::from_value(wrong).unwrap();
            trigger.ticks(Timestamp(0)).unwrap_err();
        }
    }
}
