//! How many attempts at once a site bears, found out by trying: successes widen, trouble narrows.
//!
//! It opens with few, and each success while all of them are in use allows one more, so that the number
//! doubles with every round. Trouble halves it. From then on it takes a whole round of successes for one
//! more, until nothing more is wanted. A round of attempts that fails together counts once.

/// The number, and what it was learned from. Knows neither the site nor the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Width {
    open: usize,
    /// Successes since it was last widened.
    credit: usize,
    /// It was narrowed: it widens slowly.
    careful: bool,
    /// Attempts that were under way when it was narrowed: what they say is old.
    old: usize,
    /// Troubles in a row.
    troubles: u32,
}

/// What trouble came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It was known already.
    Known,
    /// There are fewer attempts at once from now on.
    Narrowed,
    /// One at a time is too much, and not for the first time.
    TooMuch,
}

/// Troubles in a row after which one attempt at a time is too much.
const PATIENCE: u32 = 2;

impl Width {
    /// Opens with so many, at least one.
    pub(super) fn new(first: usize) -> Width {
        Width { open: first.max(1), credit: 0, careful: false, old: 0, troubles: 0 }
    }

    /// Attempts at once.
    pub(super) fn open(self) -> usize {
        self.open
    }

    /// An attempt went well while `used` were under way, itself among them; `most` are wanted. True when
    /// that allows one more.
    pub(super) fn succeeded(&mut self, used: usize, most: usize) -> bool {
        self.troubles = 0;
        if self.old > 0 {
            self.old -= 1;
            return false;
        }
        if self.open >= most {
            self.careful = false;
            return false;
        }
        // Who does not use what is open learns nothing about more.
        if used < self.open {
            return false;
        }
        self.credit += 1;
        if self.careful && self.credit < self.open {
            return false;
        }
        self.credit = 0;
        self.open += 1;
        true
    }

    /// An attempt was too much for the site while `used` were under way, itself among them.
    pub(super) fn troubled(&mut self, used: usize) -> Trouble {
        if self.old > 0 {
            self.old -= 1;
            return Trouble::Known;
        }
        self.troubles = self.troubles.saturating_add(1);
        self.credit = 0;
        if self.open == 1 {
            return if self.troubles >= PATIENCE { Trouble::TooMuch } else { Trouble::Known };
        }
        // What is open and not used was no part of the trouble.
        self.open = (self.open.min(used.max(1)) / 2).max(1);
        self.careful = true;
        self.old = used.saturating_sub(1);
        Trouble::Narrowed
    }

    /// The site is well again, while so many attempts are under way: little by little.
    pub(super) fn begin_again(&mut self, used: usize) {
        *self = Width::new(used + 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 20;

    /// All that is open is used, and all of it goes well.
    fn round(width: &mut Width) -> usize {
        for _ in 0..width.open() {
            width.succeeded(width.open(), MOST);
        }
        width.open()
    }

    #[test]
    fn it_doubles_with_every_round_up_to_what_is_wanted() {
        let mut width = Width::new(3);
        assert_eq!([0; 4].map(|_| round(&mut width)), [6, 12, 20, 20]);
        assert_eq!(Width::new(0).open(), 1);
    }

    #[test]
    fn what_is_not_used_is_not_widened() {
        let mut width = Width::new(5);
        assert!((0..100).all(|_| !width.succeeded(4, MOST)));
        assert!(width.succeeded(5, MOST));
        assert_eq!(width.open(), 6);
    }

    #[test]
    fn trouble_halves_it_once_for_those_that_were_under_way() {
        let mut width = Width::new(16);
        assert_eq!(width.troubled(16), Trouble::Narrowed);
        assert!((0..15).all(|_| width.troubled(16) == Trouble::Known));
        assert_eq!(width.open(), 8);
        assert_eq!(width.troubled(8), Trouble::Narrowed);
        assert_eq!(width.open(), 4);
        let mut idle = Width::new(16);
        idle.troubled(3);
        assert_eq!(idle.open(), 1, "three at once were too much already");
    }

    #[test]
    fn behind_trouble_it_widens_by_one_a_round() {
        let mut width = Width::new(8);
        width.troubled(8);
        assert!((0..7).all(|_| !width.succeeded(4, MOST)), "what was under way then is old");
        assert_eq!([0; 3].map(|_| round(&mut width)), [5, 6, 7]);
        let mut full = Width::new(8);
        full.troubled(8);
        full.old = 0;
        full.open = MOST;
        assert!(!full.succeeded(MOST, MOST));
        full.open = 4;
        assert_eq!(round(&mut full), 8, "it had all it wanted, and forgot the trouble");
    }

    #[test]
    fn one_at_a_time_is_too_much_when_trouble_stays() {
        let mut width = Width::new(4);
        let mut all = || {
            let trouble = width.troubled(width.open());
            width.old = 0;
            trouble
        };
        let (narrowed, much) = (Trouble::Narrowed, Trouble::TooMuch);
        assert_eq!([all(), all(), all()], [narrowed, narrowed, much]);
        let mut one = Width::new(1);
        assert_eq!([one.troubled(1), one.troubled(1)], [Trouble::Known, much], "not at once");
        one.succeeded(1, 1);
        assert_eq!(one.troubled(1), Trouble::Known, "the count begins anew");
    }

    #[test]
    fn well_again_it_opens_little_by_little() {
        let mut width = Width::new(16);
        width.troubled(16);
        width.begin_again(1);
        assert_eq!(width.open(), 3);
        assert_eq!(round(&mut width), 6);
    }
}
