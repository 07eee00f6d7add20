use super::{
    BUCKET_STARTS, Layer, MAX_LAYERS, MAX_ROW_BYTES, Values, WIDTH, kernel::Kernel, max_blob_bytes, window,
};
use crate::{algorithm::Damage, format::Header, key::Key};

/// Windows have at most so many bytes.
pub(crate) const MAX_WINDOW_BYTES: usize = MAX_ROW_BYTES * WIDTH as usize;

/// Bytes between two layers: the number of the next one's keys.
const LINK_BYTES: usize = 2;

const CUT_SHORT: Damage = Damage("a block of rows is cut short");

/// Finds payloads in blobs whose length [`check_len`](Decoder::check_len) has found right.
#[derive(Debug)]
pub(crate) struct Decoder {
    seed: u64,
    values: Values,
    kernel: Kernel,
}

/// Where in a layer what is kept for a key is, if it is there. Places are offsets in the blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    layer: usize,
    keys: u32,
    offset: u32,
    chosen: u64,
    /// Where the threshold is, a byte.
    pub(crate) threshold_at: u64,
    /// Where the window is.
    pub(crate) window_at: u64,
    /// Where the layer ends.
    end: u64,
}

impl Place {
    /// Whether the key is in this layer; else it is in the next one.
    #[inline(always)]
    pub(crate) fn holds(&self, threshold: u8) -> bool {
        self.offset >= u32::from(threshold)
    }
}

impl Decoder {
    pub(crate) fn new(header: &Header) -> Self {
        Decoder { seed: header.global_seed, values: Values::of(header), kernel: Kernel::detect() }
    }

    /// The same, of portable code alone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_portable(self) -> Self {
        Decoder { kernel: Kernel::Portable, ..self }
    }

    #[inline(always)]
    pub(crate) fn window_bytes(&self) -> usize {
        self.values.row_bytes * WIDTH as usize
    }

    /// Where a key's place is in the first layer of a block of so many keys, at least one.
    #[inline(always)]
    pub(crate) fn first(&self, keys: u32, key: Key) -> Place {
        self.place(0, keys, 0, key)
    }

    /// Where the number of the next layer's keys is, in two bytes.
    #[inline(always)]
    pub(crate) fn link_at(&self, place: &Place, blob_bytes: usize) -> Result<u64, Damage> {
        if place.end + LINK_BYTES as u64 > blob_bytes as u64 { Err(CUT_SHORT) } else { Ok(place.end) }
    }

    /// Where it is in the layer after this one, of which `link` is the number of keys.
    pub(crate) fn next(
        &self,
        place: &Place,
        link: [u8; LINK_BYTES],
        blob_bytes: usize,
        key: Key,
    ) -> Result<Place, Damage> {
        let keys = linked(link, place.keys)?;
        if place.layer + 1 == MAX_LAYERS {
            return Err(Damage("a block has more layers than any"));
        }
        let place = self.place(place.layer + 1, keys, place.end + LINK_BYTES as u64, key);
        if place.end > blob_bytes as u64 { Err(CUT_SHORT) } else { Ok(place) }
    }

    #[inline(always)]
    fn place(&self, number: usize, keys: u32, at: u64, key: Key) -> Place {
        let layer = Layer::of(keys);
        let (start, chosen) = window(key, self.seed, number, layer.starts());
        let rows_at = at + u64::from(layer.buckets());
        let row_bytes = self.values.row_bytes as u64;
        Place {
            layer: number,
            keys,
            offset: start % BUCKET_STARTS,
            chosen,
            threshold_at: at + u64::from(start / BUCKET_STARTS),
            window_at: rows_at + u64::from(start) * row_bytes,
            end: rows_at + u64::from(layer.rows) * row_bytes,
        }
    }

    /// The payload of a key with this window, `None` where it is certainly not in the block.
    #[inline(always)]
    pub(crate) fn payload(&self, window: &[u8], place: &Place, key: Key) -> Option<u64> {
        self.values.decode(key, self.kernel.combine(window, self.values.row_bytes, place.chosen))
    }

    /// Checks that the first layer is there, and that there are not more than any block has.
    pub(crate) fn check_len(&self, blob_bytes: u64, keys: u32) -> Result<(), Damage> {
        let row_bytes = self.values.row_bytes;
        let range = match keys {
            0 => 0..=0,
            _ => Layer::of(keys).bytes(row_bytes) as u64..=max_blob_bytes(keys.into(), row_bytes),
        };
        if range.contains(&blob_bytes) {
            Ok(())
        } else {
            Err(Damage("a block of rows has an impossible length"))
        }
    }

    /// Checks thresholds and layers against one another; any rows will do.
    pub(crate) fn check(&self, blob: &[u8], mut keys: u32) -> Result<(), Damage> {
        self.check_len(blob.len() as u64, keys)?;
        if keys == 0 {
            return Ok(());
        }
        let mut rest = blob;
        for _ in 0..MAX_LAYERS {
            let layer = Layer::of(keys);
            let (own, after) = rest.split_at_checked(layer.bytes(self.values.row_bytes)).ok_or(CUT_SHORT)?;
            let mut left = layer.starts();
            let mut bumped = false;
            for &threshold in own.iter().take(layer.buckets() as usize) {
                if u32::from(threshold) > left.min(BUCKET_STARTS) {
                    return Err(Damage("a threshold is beyond its bucket"));
                }
                left = left.saturating_sub(BUCKET_STARTS);
                bumped |= threshold > 0;
            }
            if !bumped {
                return if after.is_empty() { Ok(()) } else { Err(Damage("a layer after the last")) };
            }
            let (&link, after) = after.split_first_chunk().ok_or(CUT_SHORT)?;
            keys = linked(link, keys)?;
            rest = after;
        }
        Err(Damage("a block has more layers than any"))
    }
}

/// How many keys the next layer of one with `keys` keys has.
fn linked(link: [u8; LINK_BYTES], keys: u32) -> Result<u32, Damage> {
    match u32::from(u16::from_le_bytes(link)) {
        next if (1..=keys).contains(&next) => Ok(next),
        _ => Err(Damage("a layer has no keys, or more than the one before")),
    }
}
