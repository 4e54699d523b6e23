//! When something came by a grant last: noted by requests, without a lock.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::grant_id::GrantId;

/// Places. A grant has one by its id, which is random; of two that have the same, the one that is used later is known. The other
/// is as its row says.
const PLACES: usize = 1 << 16;

/// Each place has half of a grant's id, and the minute in which it was used.
#[derive(Default)]
pub(super) struct Uses(OnceLock<Box<[AtomicU64]>>);

impl Uses {
    /// Something comes by a grant at this moment. Writes once a minute, and otherwise only reads.
    pub(super) fn note(&self, id: GrantId, now: SystemTime) {
        let places = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let (place, tag) = place_and_tag(id);
        let value = tag << 32 | minute(now);
        if places[place].load(Relaxed) != value {
            places[place].store(value, Relaxed);
        }
    }

    /// When something came by a grant last, to the minute, if that is known here.
    pub(super) fn last(&self, id: GrantId) -> Option<SystemTime> {
        let (place, tag) = place_and_tag(id);
        let value = self.0.get()?[place].load(Relaxed);
        let minutes = value & u64::from(u32::MAX);
        (value >> 32 == tag && minutes > 0).then(|| UNIX_EPOCH + Duration::from_secs(minutes * 60))
    }
}

fn place_and_tag(id: GrantId) -> (usize, u64) {
    let bytes = id.bytes();
    let place = u16::from_be_bytes([bytes[0], bytes[1]]);
    (place.into(), u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]).into())
}

fn minute(now: SystemTime) -> u64 {
    let minutes = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
    minutes.min(u32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_known_to_the_minute_and_only_of_the_grant_itself() {
        let uses = Uses::default();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let (one, mut other) = ([7; 16], [7; 16]);
        other[5] = 8;
        let (one, other) = (GrantId::new(one), GrantId::new(other));
        assert_eq!(uses.last(one), None);
        uses.note(one, at(30));
        assert_eq!((uses.last(one), uses.last(other)), (Some(at(0)), None));
        uses.note(one, at(65));
        assert_eq!(uses.last(one), Some(at(60)));
        uses.note(other, at(120));
        assert_eq!((uses.last(one), uses.last(other)), (None, Some(at(120))));
    }
}
