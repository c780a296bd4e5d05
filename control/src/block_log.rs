//! The log of blocks: who had which external address and ports, from when to when. A line of JSON for
//! each that begins and each that ends; never one for a flow.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::assignments::Assignment;

const SECONDS_OF_A_DAY: u64 = 86_400;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    /// RFC 3339, UTC, whole seconds: so the order of texts is that of times.
    time: String,
    event: Event,
    #[serde(flatten)]
    assignment: Assignment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Begin,
    End,
}

/// Writes down what is new in `now` and what is no longer in it, since the last time.
///
/// # Errors
/// The file cannot be read or written.
pub fn record(path: &Path, now: &[Assignment]) -> io::Result<()> {
    let text = read(path)?;
    let open = at(&text, None);
    let before: HashSet<&Assignment> = open.iter().map(|(assignment, _)| assignment).collect();
    let after: HashSet<&Assignment> = now.iter().collect();
    let time = rfc3339(SystemTime::now());
    let ended = open.iter().map(|(assignment, _)| assignment);
    let ended = ended.filter(|assignment| !after.contains(assignment));
    let begun = now.iter().filter(|assignment| !before.contains(assignment));
    let lines = ended
        .map(|assignment| (Event::End, assignment))
        .chain(begun.map(|assignment| (Event::Begin, assignment)));
    let mut added = String::new();
    // What wrote before may have ended within a line.
    if !text.is_empty() && !text.ends_with('\n') {
        added.push('\n');
    }
    for (event, assignment) in lines {
        let line = Line {
            time: time.clone(),
            event,
            assignment: assignment.clone(),
        };
        added.push_str(&serde_json::to_string(&line)?);
        added.push('\n');
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    file.write_all(added.as_bytes())?;
    file.sync_all()
}

/// What was assigned at `time`, or is when absent, each with when it began.
///
/// # Errors
/// The file cannot be read.
pub fn assigned(path: &Path, time: Option<&str>) -> io::Result<Vec<(Assignment, String)>> {
    Ok(at(&read(path)?, time))
}

fn read(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// What had begun and not ended at `time`, in the order of the log. Lines that say nothing are passed
/// over.
fn at(text: &str, time: Option<&str>) -> Vec<(Assignment, String)> {
    let mut open: Vec<(Assignment, String)> = Vec::new();
    let mut ended = HashSet::new();
    let lines: Vec<Line> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Line| time.is_none_or(|time| line.time.as_str() <= time))
        .collect();
    // From the end: the last line about an assignment says whether it holds.
    for line in lines.into_iter().rev() {
        if ended.insert(line.assignment.clone()) && line.event == Event::Begin {
            open.push((line.assignment, line.time));
        }
    }
    open.reverse();
    open
}

/// `time` in UTC, by whole seconds.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (mut day, second) = (seconds / SECONDS_OF_A_DAY, seconds % SECONDS_OF_A_DAY);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z",
        day + 1,
        second % 60
    )
}

/// Checks a time that somebody wrote.
///
/// # Errors
/// It is not as [`rfc3339`] writes one.
pub fn time(text: &str) -> Result<String, String> {
    let like = |(place, byte): (usize, u8)| match place {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    match text.len() == 20 && text.bytes().enumerate().all(like) {
        true => Ok(text.to_owned()),
        false => Err("write a time in UTC as in 2026-01-31T23:59:59Z".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn assigned_to(guest: &str) -> Vec<Assignment> {
        let line = format!(
            r#"{{ "external": "203.0.113.10", "ports": "1024-1535", "inside": "10.0.0.1", "guest": "{guest}", "by": "nat.snat" }}"#
        );
        vec![serde_json::from_str(&line).expect("an assignment")]
    }

    #[test]
    fn t18_each_change_is_written_once_and_outlives_a_torn_line() {
        let path = std::env::temp_dir().join(format!("block-log-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let (a, b) = (assigned_to("a"), assigned_to("b"));
        let open = |time| assigned(&path, time).expect("readable");
        let who = |time| {
            open(time)
                .into_iter()
                .map(|(who, _)| who)
                .collect::<Vec<_>>()
        };
        for _ in 0..2 {
            record(&path, &a).expect("writable");
        }
        assert_eq!(
            (
                who(None),
                fs::read_to_string(&path).expect("text").lines().count()
            ),
            (a.clone(), 1)
        );
        let mut text = fs::read_to_string(&path).expect("text");
        text.push_str("{\"time\":");
        fs::write(&path, text).expect("writable");
        record(&path, &b).expect("writable");
        assert_eq!(who(None), b);
        // The one before is over, and what was before all is nobody's.
        assert!(open(Some("2020-01-01T00:00:00Z")).is_empty());
        record(&path, &[]).expect("writable");
        assert!(who(None).is_empty());
        record(&path, &b).expect("writable");
        assert_eq!(who(None), b, "again");
        fs::remove_file(&path).expect("there");
        assert!(record(Path::new("/proc/no/such/place"), &a).is_err());
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert_eq!(time(text).as_deref(), Ok(text));
        }
        assert!(time("2026-12-31").is_err() && time("2026-12-31T23:59:59+01").is_err());
    }
}
