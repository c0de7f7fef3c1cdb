//! Ticks over ten years in five zones, beside Python's `zoneinfo`: each day's tick is where the
//! other library says that this time of day is, on the days on which clocks change too.

use auria_core::Timestamp;
use auria_server::schedules::Trigger;
use std::process::Command;

/// Changes at one, two and at midnight, by an hour and by half of one, and a summer time that is
/// the standard one.
const ZONES: [&str; 5] = [
    "America/New_York",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
];
const YEARS: [i32; 2] = [2015, 2024];
/// In gaps and in hours that come twice, of one zone or another.
const TIMES: [(u8, u8); 4] = [(0, 30), (1, 45), (2, 30), (23, 15)];

/// For each day of each zone: where the time of day is. What does not come is taken by the offset
/// before the change, what comes twice the first time; `zoneinfo` calls both `fold=0`.
const PYTHON: &str = "
import sys
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo
zone, first, last, hour, minute = sys.argv[1], *map(int, sys.argv[2:])
day = date(first, 1, 1)
while day.year <= last:
    at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(zone), fold=0)
    print(int(at.timestamp()))
    day += timedelta(days=1)
";

#[test]
fn each_day_has_its_tick_through_every_change_of_clocks() {
    for zone in ZONES {
        for (hour, minute) in TIMES {
            let mut asked = Command::new("python3");
            asked.args(["-c", PYTHON, zone]);
            for number in YEARS
                .into_iter()
                .chain([i32::from(hour), i32::from(minute)])
            {
                asked.arg(number.to_string());
            }
            let said = asked.output().expect("python3 starts");
            assert!(
                said.status.success(),
                "{}",
                String::from_utf8_lossy(&said.stderr)
            );
            let said = String::from_utf8(said.stdout).expect("numbers");
            let expected: Vec<i64> = said
                .lines()
                .map(|line| line.parse().expect("a number"))
                .collect();
            assert_eq!(expected.len(), 3653);
            let trigger = Trigger::Cron {
                expression: format!("{minute} {hour} * * *"),
                start_time: None,
                end_time: None,
                time_zone: Some(zone.to_owned()),
            };
            let ticks = trigger.ticks(Timestamp(0)).expect("a trigger");
            let mut at = Timestamp(expected[0] * 1000 - 1);
            for (day, expected) in expected.iter().enumerate() {
                at = ticks.after(at).expect("a tick");
                assert_eq!(at.0, expected * 1000, "{zone} {hour}:{minute}, day {day}");
            }
        }
    }
}
