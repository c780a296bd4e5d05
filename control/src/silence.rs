//! How long somebody has been silent, as far as that is their own doing.

use std::time::{Duration, Instant};

/// A gap this long between two looks is not the other's silence: we did not run ourselves. The
/// machine slept, both processes were stopped, or the host is so busy that we are late as well.
const ABSENCE: Duration = Duration::from_secs(1);

/// Silence that is being listened to, by looks that are much less than a second apart.
#[derive(Debug)]
pub struct Silence {
    limit: Duration,
    begun: Instant,
    last: Instant,
}

impl Silence {
    /// Silence from `now` on, which is too long after `limit`.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            begun: now,
            last: now,
        }
    }

    /// There is still silence. Whether it has been too long. It begins anew after a time in which
    /// nobody looked.
    pub fn is_too_long(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.last) > ABSENCE {
            self.begun = now;
        }
        self.last = now;
        now.saturating_duration_since(self.begun) > self.limit
    }

    /// Something was heard.
    pub fn broken(&mut self, now: Instant) {
        self.begun = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);
    const LOOK: Duration = Duration::from_millis(100);

    /// Looks every 100 ms for `time`; whether it was too long at the last.
    fn listen(silence: &mut Silence, now: &mut Instant, time: Duration) -> bool {
        let mut too_long = false;
        for _ in 0..time.as_millis() / LOOK.as_millis() {
            *now += LOOK;
            too_long = silence.is_too_long(*now);
        }
        too_long
    }

    #[test]
    fn silence_is_too_long_after_its_limit() {
        let mut now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        assert!(!listen(&mut silence, &mut now, LIMIT));
        assert!(listen(&mut silence, &mut now, LOOK));
    }

    #[test]
    fn a_machine_that_stopped_is_nobody_s_silence() {
        let mut now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        for _ in 0..10 {
            assert!(!listen(&mut silence, &mut now, LIMIT - LOOK));
            now += Duration::from_secs(3600);
            assert!(!silence.is_too_long(now), "it has had no time to answer");
        }
        assert!(listen(&mut silence, &mut now, LIMIT + LOOK));
    }

    #[test]
    fn whoever_makes_progress_is_not_silent() {
        // A thousand devices of 40 ms each, each of them told.
        let mut now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        for _ in 0..1000 {
            now += Duration::from_millis(40);
            assert!(!silence.is_too_long(now));
            silence.broken(now);
        }
        assert!(listen(&mut silence, &mut now, LIMIT + LOOK));
    }
}
