//! How much of a resource one owner may have: pure arithmetic.
//!
//! One pot without a rule is emptied by whoever comes first. Fixed quotas waste what nobody else asks for. So an owner
//! may take all that is free as long as nobody else has been active lately; otherwise a quarter is kept as a reserve,
//! into which only small owners may reach. A team that shares one token has the whole gateway, and a crowd has its shares.

/// One owner asks for more of one resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// How much there is in all.
    pub(super) capacity: u64,
    /// How much the owner may have at most, whatever is free; 0 is no such limit.
    pub(super) own_limit: u64,
    /// How much all owners have.
    pub(super) used: u64,
    /// How much this owner has.
    pub(super) mine: u64,
    /// How much more it asks for.
    pub(super) amount: u64,
    /// Other owners that were active lately.
    pub(super) others: u64,
    /// Those of them that have names.
    pub(super) others_named: u64,
    /// Whether the owner is an address. Addresses cost an attacker nothing: however many they are, they make no named owner's
    /// share smaller than its part of half of the reserve.
    pub(super) is_address: bool,
    /// Whether there are named owners, active or not. Then that half of the reserve is for no address, even while no named owner
    /// is active: a token that comes next must find room.
    pub(super) has_names: bool,
    /// What an owner may have of the reserve, however many share it.
    pub(super) least: u64,
}

impl Claim {
    /// No use and no capacity.
    pub(super) const NOTHING: Self = Self {
        capacity: 0,
        own_limit: 0,
        used: 0,
        mine: 0,
        amount: 0,
        others: 0,
        others_named: 0,
        is_address: false,
        has_names: false,
        least: 1,
    };
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// There is no more.
    Gateway,
    /// There is more, for others.
    Caller,
}

/// Decides about `ask`.
pub(super) fn decide(ask: Claim) -> Result<(), Limit> {
    let Claim { capacity, own_limit, used, mine, amount, others, others_named, is_address, has_names, least } =
        ask;
    let (after, mine) = (used.saturating_add(amount), mine.saturating_add(amount));
    if own_limit > 0 && mine > own_limit {
        return Err(Limit::Caller);
    }
    if after > capacity {
        return Err(Limit::Gateway);
    }
    let reserve = reserve(capacity);
    // Half of the reserve, rounded up, so that the last place is never an address's.
    let of_named = reserve.div_ceil(2);
    if is_address && has_names && after > capacity - of_named {
        // Who has nothing yet is not at a limit of its own.
        return Err(if mine > least { Limit::Caller } else { Limit::Gateway });
    }
    if others == 0 || after <= capacity - reserve {
        return Ok(());
    }
    let share = match is_address {
        // Of what addresses may have of it.
        true => (reserve - if has_names { of_named } else { 0 }) / others,
        false => (reserve / others).max(of_named / others_named.max(1)),
    };
    if mine > share.max(least) { Err(Limit::Caller) } else { Ok(()) }
}

/// What is kept for others: a quarter, and at least one where there is more than one.
fn reserve(capacity: u64) -> u64 {
    if capacity > 1 { (capacity / 4).max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALONE: Claim = Claim {
        capacity: 100,
        own_limit: 0,
        used: 0,
        mine: 0,
        amount: 1,
        others: 0,
        others_named: 0,
        is_address: false,
        has_names: true,
        least: 1,
    };

    /// How many of `capacity` an owner gets that asks for one after the other.
    fn greedy(ask: Claim) -> u64 {
        let mut ask = ask;
        while decide(ask).is_ok() {
            (ask.used, ask.mine) = (ask.used + 1, ask.mine + 1);
        }
        ask.mine
    }

    #[test]
    fn an_owner_alone_has_everything_and_beside_others_three_quarters() {
        assert_eq!(greedy(ALONE), 100);
        assert_eq!(greedy(Claim { others: 1, ..ALONE }), 75);
        assert_eq!(greedy(Claim { others: 49, ..ALONE }), 75);
        assert_eq!(greedy(Claim { own_limit: 10, ..ALONE }), 10);
        assert_eq!(greedy(Claim { capacity: 2, others: 1, ..ALONE }), 1);
        assert_eq!(greedy(Claim { capacity: 1, others: 5, ..ALONE }), 1);
    }

    #[test]
    fn what_a_greedy_owner_leaves_is_shared_by_the_others() {
        let beside = Claim { used: 75, others: 5, others_named: 5, ..ALONE };
        assert_eq!(greedy(beside), 5, "a fifth of the reserve");
        assert_eq!(decide(Claim { used: 100, ..beside }), Err(Limit::Gateway));
        assert_eq!(decide(Claim { used: 99, mine: 5, ..beside }), Err(Limit::Caller));
        assert_eq!(decide(Claim { used: 99, mine: 4, ..beside }), Ok(()));
    }

    #[test]
    fn an_address_alone_leaves_a_part_for_names_if_there_are_any() {
        assert_eq!(greedy(Claim { is_address: true, ..ALONE }), 87);
        assert_eq!(greedy(Claim { is_address: true, has_names: false, ..ALONE }), 100);
        assert_eq!(greedy(Claim { is_address: true, capacity: 2, ..ALONE }), 1);
    }

    #[test]
    fn any_number_of_addresses_leaves_room_for_a_token() {
        let crowd = Claim { others: 1_000, others_named: 1, is_address: true, ..ALONE };
        let mut used = 75;
        while decide(Claim { used, ..crowd }).is_ok() {
            used += 1;
        }
        assert_eq!(used, 87, "thirteen of twenty-five are for named owners");
        let named = Claim { used, others: 1_000, ..ALONE };
        assert_eq!(greedy(named), 13);
        assert_eq!(greedy(Claim { others_named: 3, ..named }), 4);
        assert_eq!(greedy(Claim { others_named: 100, ..named }), 1);
    }

    #[test]
    fn addresses_share_their_half_of_the_reserve_in_equal_parts() {
        for (has_names, part) in [(true, 3), (false, 6)] {
            let mut used = 75;
            for _ in 0..4 {
                let address = Claim { is_address: true, used, others: 4, has_names, ..ALONE };
                assert_eq!(greedy(address), part, "of what a greedy one leaves four others");
                used += part;
            }
        }
    }

    proptest! {
        #[test]
        fn a_newcomer_is_never_refused_for_what_one_other_has(capacity in 2_u64..10_000, others in 1_u64..50) {
            let taken = greedy(Claim { capacity, others, ..ALONE });
            prop_assert!(taken < capacity);
            prop_assert_eq!(decide(Claim { capacity, used: taken, others, ..ALONE }), Ok(()));
        }

        #[test]
        fn nobody_gets_more_than_there_is(
            capacity in 0_u64..100, used in 0_u64..200, mine in 0_u64..100, amount in 1_u64..300,
            others in 0_u64..9, others_named in 0_u64..9, own_limit in 0_u64..50, is_address: bool, has_names: bool, least in 1_u64..9,
        ) {
            let ask = Claim {
                capacity, own_limit, used, mine, amount, others, others_named, is_address, has_names, least,
            };
            let asked = decide(ask);
            prop_assert!(asked.is_err() || used + amount <= capacity);
        }
    }
}
