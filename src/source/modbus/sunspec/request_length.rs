//! How many registers of a model are asked for at once: learned from its refusals. Pure.
//!
//! Two refusals of a length as an illegal address or value, and none of the model's images whole in between, halve it. If that has
//! not helped down to [`MIN`], the refusals were not about length: it is as long as before again, and tried ever more seldom. Where
//! it has helped, the whole is tried again after some images ([`TRIED_AT`]), as the refusals may have been a mood: answered, nothing of
//! them is left.

/// Modbus Application Protocol 1.1b3, 6.3.
pub(super) const MAX: u16 = 125;
/// Below, a device that refuses a read does not refuse it for its length. There are some that give no more than 10.
const MIN: u16 = 4;
/// One refusal may be a mood, or the late one of another request.
const REFUSALS: u32 = 2;
/// Those that are reason to try shorter ones again where they have not helped; doubled each time.
const RETRY_FIRST: u32 = 64;
/// The images in shorter requests after which the whole is tried: each costs one refusal.
const TRIED_AT: [u32; 3] = [8, 64, 512];

/// Of one model of one device.
#[derive(Debug)]
pub(super) struct RequestLength {
    now: u16,
    /// What is known to be short enough, while the whole is tried.
    short_enough: Option<u16>,
    refusals: u32,
    needed: u32,
    retry: u32,
    images: u32,
}

impl RequestLength {
    pub(super) fn new() -> Self {
        Self { now: MAX, short_enough: None, refusals: 0, needed: REFUSALS, retry: RETRY_FIRST, images: 0 }
    }

    /// At most so many at once.
    pub(super) fn now(&self) -> u16 {
        self.now
    }

    /// A request of so many was refused. Answers whether it is another length now.
    pub(super) fn refused(&mut self, count: u16) -> bool {
        if let Some(short_enough) = self.short_enough.take() {
            self.now = short_enough;
            return true;
        }
        self.refusals += 1;
        if self.refusals < self.needed {
            return false;
        }
        self.refusals = 0;
        if count > MIN {
            (self.now, self.needed, self.images) = ((count / 2).max(MIN), REFUSALS, 0);
            return true;
        }
        (self.needed, self.retry) = (self.retry, self.retry.saturating_mul(2));
        std::mem::replace(&mut self.now, MAX) != MAX
    }

    /// An image was read whole. Answers whether it is another length now.
    pub(super) fn succeeded(&mut self) -> bool {
        (self.refusals, self.needed) = (0, REFUSALS);
        if self.short_enough.take().is_some() {
            self.retry = RETRY_FIRST;
            return false;
        }
        if self.now == MAX {
            return false;
        }
        self.images = self.images.saturating_add(1);
        let is_tried = TRIED_AT.contains(&self.images);
        if is_tried {
            self.short_enough = Some(std::mem::replace(&mut self.now, MAX));
        }
        is_tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses requests of more than `longest` of `span` registers in each of `rounds`; the lengths that were asked for.
    fn ask(length: &mut RequestLength, span: u16, longest: u16, rounds: u32) -> Vec<u16> {
        let mut asked = Vec::new();
        for _ in 0..rounds {
            asked.push(length.now().min(span));
            if length.now().min(span) <= longest {
                length.succeeded();
            } else {
                length.refused(length.now().min(span));
            }
        }
        asked
    }

    #[test]
    fn a_length_that_is_refused_twice_is_halved_until_it_is_answered_and_the_whole_is_tried_ever_more_seldom() {
        let mut length = RequestLength::new();
        let asked = ask(&mut length, 107, 30, 10_000);
        assert_eq!(asked[..6], [107, 107, 53, 53, 26, 26]);
        assert_eq!(asked[6..].iter().filter(|asked| **asked == 107).count(), TRIED_AT.len());
        assert_eq!(length.now(), 26);
    }

    #[test]
    fn refusals_of_a_mood_leave_nothing_behind() {
        for mood in 1..40 {
            let mut length = RequestLength::new();
            ask(&mut length, 107, 0, mood);
            let asked = ask(&mut length, 107, 107, 20);
            assert_eq!(asked.last(), Some(&107), "after {mood} refusals");
            assert_eq!(length.now(), MAX, "after {mood} refusals");
        }
    }

    #[test]
    fn a_model_that_is_refused_at_any_length_is_asked_in_one_request_and_cut_ever_more_seldom() {
        let mut length = RequestLength::new();
        let asked = ask(&mut length, 107, 0, 10_000);
        let cuts = asked.iter().filter(|asked| **asked < 107).count();
        assert!(cuts <= 10 * 9, "{cuts} short requests");
        let mut short = RequestLength::new();
        assert_eq!(ask(&mut short, 4, 0, 1_000), [4; 1_000]);
    }
}
