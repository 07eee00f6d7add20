use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::BoxError;

/// Appends to an empty buffer what is to be hashed in place of an item.
pub(crate) type ExtractFn<'f> = dyn Fn(&[u8], &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'f;
pub(crate) type Extract = Arc<ExtractFn<'static>>;

/// The SHA-256 over `u32 length ‖ bytes` of each item of a record, whose sizes add up to the payload.
pub(crate) fn record_digest(
    payload: &[u8],
    sizes: &[u32],
    extract: Option<&ExtractFn<'_>>,
) -> Result<[u8; 32], BoxError> {
    let mut hash = Sha256::new();
    let (mut rest, mut extracted) = (payload, Vec::new());
    for &size in sizes {
        let (mut item, after) = rest.split_at_checked(size as usize).ok_or("sizes exceed the payload")?;
        rest = after;
        if let Some(extract) = extract {
            extracted.clear();
            extract(item, &mut extracted)?;
            item = &extracted;
        }
        hash.update(u32::try_from(item.len())?.to_le_bytes());
        hash.update(item);
    }
    Ok(hash.finalize().into())
}
