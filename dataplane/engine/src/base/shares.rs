//! Dividing what many use among them, without knowing how many they are.
//!
//! One may have as much as is left to the others ("dynamic thresholds", Choudhury and Hahne 1998): a
//! single one gets half of all, two get a third each, and there is always room for the next. Who has a
//! limit of its own may have that much instead, as long as there is any.

/// How much each of many has of something, by its number.
#[derive(Debug, Clone)]
pub struct Shares {
    total: u32,
    used: u32,
    by: Vec<Share>,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    used: u32,
    limit: u32,
}

/// Nobody has anything, and no limit of its own.
const NONE: Share = Share {
    used: 0,
    limit: u32::MAX,
};

impl Shares {
    /// Of `total`, nobody has anything yet.
    pub fn new(total: u32) -> Self {
        Self {
            total,
            used: 0,
            by: Vec::new(),
        }
    }

    /// From now on there are `total`.
    pub fn divide(&mut self, total: u32) {
        self.total = total;
    }

    /// What `who` may have at most; `None`: its share, as everybody.
    pub fn limit(&mut self, who: usize, limit: Option<u32>) {
        let limit = limit.unwrap_or(u32::MAX);
        if limit != NONE.limit || who < self.by.len() {
            self.of(who).limit = limit;
        }
    }

    /// Whether `who` may have `more`.
    #[inline]
    pub fn may_take(&self, who: usize, more: u32) -> bool {
        let share = self.by.get(who).unwrap_or(&NONE);
        match share.limit {
            u32::MAX => share.used + more <= self.free(),
            limit => share.used + more <= limit && more <= self.free(),
        }
    }

    /// Whether `who` may have `more` once it has given `back`.
    pub fn may_take_after(&self, who: usize, more: u32, back: u32) -> bool {
        let share = self.by.get(who).unwrap_or(&NONE);
        let (used, free) = (share.used.saturating_sub(back) + more, self.free() + back);
        match share.limit {
            u32::MAX => used <= free,
            limit => used <= limit && more <= free,
        }
    }

    /// Whether `who` may have one of those that `from` has, all of which count as free.
    pub fn may_take_from(&self, who: usize, from: usize) -> bool {
        let share = self.by.get(who).unwrap_or(&NONE);
        let left = self.used(from);
        let within = match share.limit {
            u32::MAX => share.used < self.free() + left,
            limit => share.used < limit,
        };
        left > 0 && within
    }

    /// `who` has `amount` more. It is not checked whether it may.
    pub fn take(&mut self, who: usize, amount: u32) {
        self.used += amount;
        self.of(who).used += amount;
    }

    /// `who` gives `amount` back.
    pub fn give_back(&mut self, who: usize, amount: u32) {
        self.used -= amount;
        self.of(who).used -= amount;
    }

    /// What `who` has.
    pub fn used(&self, who: usize) -> u32 {
        self.by.get(who).map_or(0, |share| share.used)
    }

    /// What `who` could have now, with all that it has.
    pub fn most(&self, who: usize) -> u32 {
        let share = self.by.get(who).unwrap_or(&NONE);
        match share.limit {
            u32::MAX => (self.free() + share.used) / 2,
            limit => limit,
        }
    }

    /// What all have together.
    pub fn all(&self) -> u32 {
        self.used
    }

    /// What nobody has.
    pub fn free(&self) -> u32 {
        self.total.saturating_sub(self.used)
    }

    /// In bytes.
    pub fn memory(&self) -> usize {
        self.by.capacity() * size_of::<Share>()
    }

    fn of(&mut self, who: usize) -> &mut Share {
        if self.by.len() <= who {
            self.by.resize(who + 1, NONE);
        }
        &mut self.by[who]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(shares: &mut Shares, who: usize) -> u32 {
        while shares.may_take(who, 1) {
            shares.take(who, 1);
        }
        shares.used(who)
    }

    #[test]
    fn one_gets_half_and_there_is_always_room_for_the_next() {
        let mut shares = Shares::new(1_200);
        assert_eq!(fill(&mut shares, 0), 600);
        assert_eq!(shares.most(0), 600);
        assert_eq!(fill(&mut shares, 1), 300, "the first keeps what it has");
        for who in 2..7 {
            assert!(fill(&mut shares, who) > 0, "{who}");
        }
        shares.give_back(0, 600);
        assert!(shares.may_take(6, 1), "room is given to whoever asks");
    }

    #[test]
    fn a_limit_of_its_own_goes_before_the_share() {
        let mut shares = Shares::new(100);
        shares.limit(3, Some(7));
        assert_eq!((fill(&mut shares, 3), shares.most(3)), (7, 7));
        shares.limit(3, Some(90));
        assert_eq!(fill(&mut shares, 3), 90);
        shares.limit(3, None);
        assert!(!shares.may_take(3, 1) && shares.may_take(4, 10));
        shares.limit(4, Some(90));
        assert_eq!(fill(&mut shares, 4), 10, "there is no more");
    }
}
