//! The random numbers that eviction starts from: 128-bit PCG with the DXSM output (O'Neill, 2014, 2019).

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

pub(super) struct Random {
    state: u128,
}

impl Random {
    /// The generator of an attempt, counted from 0.
    pub(super) fn of_attempt(attempt: u32, seed: u64) -> Self {
        let high = split_mix(seed ^ u64::from(attempt + 1).wrapping_mul(GOLDEN));
        Random { state: u128::from(high) << 64 | u128::from(split_mix(high)) }
    }

    pub(super) fn next_pilot(&mut self) -> u8 {
        const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
        const INCREMENT: u128 = 0x5851_F42D_4C95_7F2D_1405_7B7E_F767_814F;
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        let (high, low) = ((self.state >> 64) as u64, self.state as u64);
        let high = (high ^ high >> 32).wrapping_mul(0xDA94_2042_E4DD_58B5);
        (high ^ high >> 48).wrapping_mul(low | 1) as u8
    }
}

fn split_mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
