//! When router advertisements are due, and to whom (RFC 4861 §6.2).
//!
//! | a port is | event | next |
//! |---|---|---|
//! | (new) | | advertised to: three soon, then every Min..Max |
//! | advertised to | other things are configured | three soon, what is gone withdrawn |
//! | advertised to | nothing is configured any more | farewell: three, then nothing |
//! | advertised to | a solicitation | one answer within half a second |

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::deadlines::Deadlines;
use crate::base::random::Random;
use crate::base::time::Instant;
use crate::config::services::{Ra, RaPrefix, RaRoute};
use crate::model::change::Advertise;

/// RFC 4861 §10.
const MAX_INITIAL_INTERVAL: u64 = 16_000;
const MAX_INITIAL: u8 = 3;
const MAX_FINAL: u8 = 3;
const MIN_DELAY_BETWEEN: Duration = Duration::from_secs(3);
const MAX_ANSWER_DELAY: u64 = 500;

/// A guest's port that is advertised to.
pub(crate) type Place = (InterfaceId, PortId);

/// Every guest's port that is advertised to, and what is due there.
#[derive(Debug, Clone)]
pub(crate) struct Advertisers {
    by_place: BTreeMap<Place, Advertiser>,
    due: Deadlines<Place>,
    random: Random,
}

/// One port's schedule.
#[derive(Debug, Clone)]
struct Advertiser {
    /// When the next one goes to all.
    next: Instant,
    /// How many more come at initial intervals.
    initial: u8,
    /// `Some`: it is no longer configured, and this many are left to say so.
    farewells: Option<u8>,
    /// When the last one went to all.
    last: Option<Instant>,
    /// Who is answered alone, and when.
    answer: Option<(Instant, Ipv6Addr, MacAddr)>,
    /// What is advertised.
    known: Arc<Ra>,
    /// What was advertised and is no longer: guests must be told to forget it.
    gone: Arc<Gone>,
}

/// Prefixes and routes that are no longer advertised.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gone {
    pub(crate) prefixes: Vec<RaPrefix>,
    pub(crate) routes: Vec<RaRoute>,
}

/// An advertisement to be sent now.
#[derive(Debug, Clone)]
pub(crate) struct Advertisement {
    pub(crate) place: Place,
    pub(crate) ra: Arc<Ra>,
    pub(crate) gone: Arc<Gone>,
    /// The gateway says that it is no longer one.
    pub(crate) farewell: bool,
    /// To this guest alone; `None`: to all.
    pub(crate) to: Option<(Ipv6Addr, MacAddr)>,
}

impl Advertisers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            by_place: BTreeMap::new(),
            due: Deadlines::default(),
            random: Random::new(seed),
        }
    }

    /// Follows a new configuration: new ports begin, changed ones begin anew, others say farewell.
    pub(crate) fn change(&mut self, place: Place, what: &Advertise, now: Instant) {
        match what {
            Advertise::Now(ra) => {
                let entry = self.by_place.entry(place).or_insert_with(|| Advertiser {
                    next: now,
                    initial: 0,
                    farewells: None,
                    last: None,
                    answer: None,
                    known: ra.clone(),
                    gone: Arc::default(),
                });
                entry.gone = Arc::new(entry.gone_with(ra));
                entry.known = ra.clone();
                entry.farewells = None;
                self.begin(place, now);
            }
            Advertise::Farewell => {
                let Some(entry) = self.by_place.get_mut(&place) else {
                    return;
                };
                if entry.farewells.is_none() {
                    entry.farewells = Some(MAX_FINAL);
                    entry.answer = None;
                    entry.next = entry.earliest(now);
                }
                self.schedule(place);
            }
            // Nobody is left to say farewell to.
            Advertise::Gone => self.forget(place),
        }
    }

    /// A port's device came (back): its guest may just have booted.
    pub(crate) fn attached(&mut self, place: Place, now: Instant) {
        let entry = self.by_place.get(&place);
        if entry.is_some_and(|entry| entry.farewells.is_none()) {
            self.begin(place, now);
        }
    }

    /// A router solicitation came: from `asker`, or from the unspecified address, which is
    /// answered to all (RFC 4861 §6.2.6, N20). Many together get one answer.
    pub(crate) fn solicited(
        &mut self,
        place: Place,
        asker: Option<(Ipv6Addr, MacAddr)>,
        now: Instant,
    ) {
        let delay = Duration::from_millis(self.random.below(MAX_ANSWER_DELAY + 1));
        let entry = self.by_place.get_mut(&place);
        let Some(entry) = entry.filter(|entry| entry.farewells.is_none()) else {
            return;
        };
        match asker {
            Some((address, mac)) => {
                let due = entry.answer.map_or(now + delay, |(due, ..)| due);
                entry.answer = Some((due, address, mac));
            }
            None => entry.next = entry.next.min(entry.earliest(now + delay)),
        }
        self.schedule(place);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    /// The next port where something is due by now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Advertisement> {
        while let Some(place) = self.due.pop(now) {
            let Some(entry) = self.by_place.get_mut(&place) else {
                continue;
            };
            let alone = entry.answer.take_if(|(due, ..)| *due <= now);
            let to = alone.map(|(_, address, mac)| (address, mac));
            let advertisement = entry.advertisement(place, to);
            if to.is_none() {
                self.sent_to_all(place, now);
            }
            self.schedule(place);
            return Some(advertisement);
        }
        None
    }

    /// Every port that is advertised to is told that the gateway is no more (RFC 4861 §6.2.5).
    pub(crate) fn stop(&mut self) -> Vec<Advertisement> {
        self.due = Deadlines::default();
        let all = std::mem::take(&mut self.by_place).into_iter();
        let farewell = |(place, entry): (Place, Advertiser)| Advertisement {
            farewell: true,
            ..entry.advertisement(place, None)
        };
        all.map(farewell).collect()
    }

    fn sent_to_all(&mut self, place: Place, now: Instant) {
        let Some(entry) = self.by_place.get_mut(&place) else {
            return;
        };
        entry.last = Some(now);
        if let Some(left) = &mut entry.farewells {
            *left -= 1;
            entry.next = now + MIN_DELAY_BETWEEN;
            if *left == 0 {
                self.by_place.remove(&place);
            }
            return;
        }
        entry.initial = entry.initial.saturating_sub(1);
        let mut interval = interval(&mut self.random, &entry.known);
        if entry.initial > 0 {
            interval = interval.min(MAX_INITIAL_INTERVAL);
        } else {
            entry.gone = Arc::default();
        }
        entry.next = entry.earliest(now + Duration::from_millis(interval));
    }

    /// The first of several soon: at once but for a little randomness (RFC 4861 §6.2.4).
    fn begin(&mut self, place: Place, now: Instant) {
        let delay = Duration::from_millis(self.random.below(MAX_ANSWER_DELAY + 1));
        if let Some(entry) = self.by_place.get_mut(&place) {
            entry.initial = MAX_INITIAL;
            entry.next = entry.earliest(now + delay);
        }
        self.schedule(place);
    }

    fn forget(&mut self, place: Place) {
        self.by_place.remove(&place);
        self.due.clear(place);
    }

    fn schedule(&mut self, place: Place) {
        let Some(entry) = self.by_place.get(&place) else {
            return;
        };
        let answer = entry.answer.map(|(due, ..)| due);
        let due = answer.map_or(entry.next, |due| due.min(entry.next));
        self.due.set(place, due);
    }
}

/// Uniform between the least and the largest interval (RFC 4861 §6.2.1, §6.2.4), in milliseconds.
fn interval(random: &mut Random, ra: &Ra) -> u64 {
    let most = u64::from(ra.interval) * 1000;
    let least = if ra.interval >= 9 {
        most / 3
    } else {
        most * 3 / 4
    };
    least + random.below(most - least + 1)
}

impl Advertiser {
    fn advertisement(&self, place: Place, to: Option<(Ipv6Addr, MacAddr)>) -> Advertisement {
        Advertisement {
            place,
            ra: self.known.clone(),
            gone: self.gone.clone(),
            farewell: self.farewells.is_some(),
            to,
        }
    }

    /// `wanted`, or as soon after it as the last one to all allows.
    fn earliest(&self, wanted: Instant) -> Instant {
        self.last
            .map_or(wanted, |last| wanted.max(last + MIN_DELAY_BETWEEN))
    }

    /// What `new` no longer says.
    fn gone_with(&self, new: &Ra) -> Gone {
        let routes = self.known.routes.iter().chain(&self.gone.routes);
        let prefixes = self.known.prefixes.iter().chain(&self.gone.prefixes);
        let same = |prefix: &RaPrefix| new.prefixes.iter().any(|p| p.prefix == prefix.prefix);
        Gone {
            prefixes: prefixes.filter(|p| !same(p)).cloned().collect(),
            routes: routes
                .filter(|route| !new.routes.iter().any(|r| r.prefix == route.prefix))
                .cloned()
                .collect(),
        }
    }
}
