//! A static function: the content itself is what it gives, and there is no table.

use std::time::Instant;

use dsi_progress_logger::no_logging;
use mem_dbg::{MemSize, SizeFlags};
use rayon::prelude::*;
use sux::func::{VBuilder, VFunc};

use crate::{
    Any,
    contender::{Builder, Built, How, Lookup},
    keys::{Key, payloads},
};

type Function = VFunc<Key, Box<[u32]>>;

pub(crate) struct Values;

impl Builder for Values {
    type Structure = Function;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<Function>> {
        let payloads = payloads(keys.len());
        let start = Instant::now();
        let value = |key: &Key| key.payload(payloads) << 8 | key.fingerprint();
        let values: Vec<u32> = keys.par_iter().map(value).collect();
        let builder = VBuilder::default().expected_num_keys(keys.len()).max_num_threads(how.workers);
        let structure = Function::try_par_new_with_builder(keys, &values, builder, no_logging![])?;
        let seconds = start.elapsed().as_secs_f64();
        let bytes = structure.mem_size(SizeFlags::default()) as u64;
        Ok(Built { structure, seconds, bytes, function: None })
    }
}

impl Lookup for Function {
    #[inline(always)]
    fn get(&self, key: &Key) -> Option<u32> {
        let value = VFunc::get(self, key);
        (value & 0xFF == key.fingerprint()).then_some(value >> 8)
    }
}
