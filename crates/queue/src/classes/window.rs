//! Times of the week at which mail of a class may go.

use waypost_mail::Timestamp;

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 1440;
const MINUTE: u64 = 60_000;
/// The first of January 1970 was a Thursday, the third day after a Monday.
const FIRST_DAY: u64 = 3;
/// Keeps moments of 1970 positive whatever the offset, and the days of the week as they are.
const WEEKS: u64 = 7 * DAY_MINUTES as u64;

/// Part of some days of the week, in a fixed time zone: daylight saving is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Monday to Sunday: on which days it begins. At least one.
    pub days: [bool; 7],
    /// Minutes after midnight at which it begins, below [`DAY_MINUTES`].
    pub from: u16,
    /// Minutes after midnight at which it ends, at most [`DAY_MINUTES`]; on the next day when that is not
    /// after `from`.
    pub until: u16,
    /// Minutes that local time is ahead of UTC, −14 to 14 hours.
    pub offset: i16,
}

impl Window {
    /// The first moment from `now` on that is within the window: `now` itself while it is open.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let utc = now.0 / MINUTE + WEEKS;
        let local = utc.saturating_add_signed(i64::from(self.offset));
        let today = local / u64::from(DAY_MINUTES);
        // One that began yesterday may go on beyond midnight.
        for day in today - 1..=today + 7 {
            let begins = day * u64::from(DAY_MINUTES) + u64::from(self.from);
            if !self.begins_on(day) || begins + u64::from(self.length()) <= local {
                continue;
            }
            let wait = begins.saturating_sub(local) * MINUTE;
            let into_minute = if wait > 0 { now.0 % MINUTE } else { 0 };
            return Timestamp(now.0.saturating_add(wait) - into_minute);
        }
        now
    }

    /// True when the days say that one begins on this day since 1970, [`WEEKS`] later.
    fn begins_on(&self, day: u64) -> bool {
        self.days[((day + FIRST_DAY) % 7) as usize]
    }

    /// Minutes from its begin to its end.
    fn length(&self) -> u16 {
        if self.until > self.from {
            self.until - self.from
        } else {
            DAY_MINUTES - self.from + self.until
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: u64 = MINUTE;
    /// Wednesday, 25 November 2026, 00:00 UTC.
    const WEDNESDAY: u64 = 1_795_564_800_000;

    fn at(day: u64, hour: u64, minute: u64) -> Timestamp {
        Timestamp(WEDNESDAY + ((day * 24 + hour) * 60 + minute) * MINUTES)
    }

    fn on(days: &[usize], from: u16, until: u16, offset: i16) -> Window {
        let mut window = Window { days: [false; 7], from: from * 60, until: until * 60, offset };
        days.iter().for_each(|day| window.days[*day] = true);
        window
    }

    #[test]
    fn the_day_is_what_the_calendar_says() {
        assert!(at(0, 0, 0).rfc5322().starts_with("Wed, 25 Nov 2026 00:00:00"));
    }

    #[test]
    fn a_window_is_open_from_its_begin_up_to_its_end() {
        let workdays = on(&[0, 1, 2, 3, 4], 9, 17, 0);
        assert_eq!(workdays.next(at(0, 8, 59)), at(0, 9, 0));
        assert_eq!(workdays.next(at(0, 9, 0)), at(0, 9, 0));
        assert_eq!(workdays.next(at(0, 16, 59)), at(0, 16, 59));
        assert_eq!(workdays.next(at(0, 17, 0)), at(1, 9, 0));
        assert_eq!(workdays.next(at(2, 17, 0)), at(5, 9, 0), "from Friday to Monday");
        let now = Timestamp(at(0, 8, 59).0 + 12_345);
        assert_eq!(workdays.next(now), at(0, 9, 0), "to the minute");
    }

    #[test]
    fn a_night_ends_on_the_next_day() {
        let night = on(&[2], 22, 6, 0);
        assert_eq!(night.next(at(0, 5, 0)), at(0, 22, 0), "Tuesday's night is none");
        assert_eq!(night.next(at(0, 23, 0)), at(0, 23, 0));
        assert_eq!(night.next(at(1, 5, 59)), at(1, 5, 59));
        assert_eq!(night.next(at(1, 6, 0)), at(7, 22, 0), "a week later");
        let whole = on(&[0, 1, 2, 3, 4, 5, 6], 0, 24, 0);
        assert_eq!(whole.next(at(3, 13, 7)), at(3, 13, 7));
    }

    #[test]
    fn offsets_move_the_day() {
        let east = on(&[3], 0, 2, 120);
        assert_eq!(east.next(at(0, 21, 0)), at(0, 22, 0), "Thursday begins there at 22:00 UTC");
        assert_eq!(east.next(at(0, 23, 59)), at(0, 23, 59));
        assert_eq!(east.next(at(1, 0, 0)), at(7, 22, 0));
        let west = on(&[1], 20, 24, -300);
        assert_eq!(west.next(at(0, 0, 30)), at(0, 1, 0), "it is still Tuesday there");
        assert_eq!(on(&[3], 0, 1, -840).next(Timestamp(0)), Timestamp(14 * 60 * MINUTES));
    }
}
