//! What XDR types are made of, and the notation in which the chain's own types are written down.
//!
//! A type here is a name without values: it only knows how to step over one value of itself, checking everything that
//! a full decoder would refuse.
//!
//! ```text
//! xdr! {
//!     struct Price { n: Int, d: Int }              // fields in their order
//!     union Memo { 0 => Void, 1 => Bytes<28> }     // a discriminant, then the arm it selects
//!     enum Durability { 0 | 1 }                    // the values that are defined
//! }
//! ```

use std::marker::PhantomData;

use super::{Cursor, Step};

/// A type of XDR.
pub(crate) trait Xdr {
    /// The length in bytes, for types of which any bytes of that length are a value.
    const SIZE: Option<usize> = None;

    /// Steps over one value.
    fn skip(c: &mut Cursor<'_>) -> Step;
}

/// Nothing at all.
pub(crate) enum Void {}
/// Four bytes, or eight.
pub(crate) type Int = Opaque<4>;
pub(crate) type Hyper = Opaque<8>;
/// Exactly `N` bytes, a multiple of four.
pub(crate) enum Opaque<const N: usize> {}
/// A boolean.
pub(crate) enum Bool {}
/// At most `MAX` bytes after their length.
pub(crate) enum Bytes<const MAX: u32 = { u32::MAX }> {}
/// A value or none.
pub(crate) struct Opt<T>(PhantomData<T>);
/// At most `MAX` values after their number.
pub(crate) struct List<T, const MAX: u32 = { u32::MAX }>(PhantomData<T>);
/// Where a type contains itself.
pub(crate) struct Nest<T>(PhantomData<T>);

impl Xdr for Void {
    const SIZE: Option<usize> = Some(0);

    #[inline(always)]
    fn skip(_: &mut Cursor<'_>) -> Step {
        Ok(())
    }
}

impl<const N: usize> Xdr for Opaque<N> {
    const SIZE: Option<usize> = Some(N);

    #[inline(always)]
    fn skip(c: &mut Cursor<'_>) -> Step {
        const { assert!(N.is_multiple_of(4)) };
        c.advance(N)
    }
}

impl Xdr for Bool {
    #[inline(always)]
    fn skip(c: &mut Cursor<'_>) -> Step {
        c.flag().map(drop)
    }
}

impl<const MAX: u32> Xdr for Bytes<MAX> {
    #[inline(always)]
    fn skip(c: &mut Cursor<'_>) -> Step {
        c.opaque(MAX).map(drop)
    }
}

impl<T: Xdr> Xdr for Opt<T> {
    #[inline(always)]
    fn skip(c: &mut Cursor<'_>) -> Step {
        if c.flag()? { T::skip(c) } else { Ok(()) }
    }
}

impl<T: Xdr, const MAX: u32> Xdr for List<T, MAX> {
    #[inline(always)]
    fn skip(c: &mut Cursor<'_>) -> Step {
        let count = c.count(MAX)?;
        match T::SIZE {
            Some(size) => c.advance(count.saturating_mul(size)),
            None => (0..count).try_for_each(|_| T::skip(c)),
        }
    }
}

impl<T: Xdr> Xdr for Nest<T> {
    fn skip(c: &mut Cursor<'_>) -> Step {
        c.enter()?;
        T::skip(c)?;
        c.leave();
        Ok(())
    }
}

/// The sum of sizes, where all are fixed.
pub(crate) const fn total(sizes: &[Option<usize>]) -> Option<usize> {
    let (mut sum, mut i) = (0, 0);
    while i < sizes.len() {
        match sizes[i] {
            Some(size) => sum += size,
            None => return None,
        }
        i += 1;
    }
    Some(sum)
}

/// Declares types in the notation of the module.
macro_rules! xdr {
    ($($kind:ident $name:ident $body:tt)*) => { $($crate::xdr::shape::define!($kind $name $body);)* };
}

macro_rules! define {
    (struct $name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        pub(crate) enum $name {}

        impl Xdr for $name {
            const SIZE: Option<usize> = $crate::xdr::shape::total(&[$(<$ty>::SIZE),*]);

            fn skip(c: &mut Cursor<'_>) -> Step {
                if let Some(size) = Self::SIZE {
                    return c.advance(size);
                }
                $(<$ty>::skip(c)?;)*
                Ok(())
            }
        }
    };
    (union $name:ident { $($case:pat => $arm:ty),* $(,)? }) => {
        pub(crate) enum $name {}

        impl Xdr for $name {
            fn skip(c: &mut Cursor<'_>) -> Step {
                match c.int()? {
                    $($case => <$arm>::skip(c),)*
                    _ => c.back(4, concat!("not a case of ", stringify!($name))),
                }
            }
        }
    };
    (enum $name:ident { $case:pat }) => {
        pub(crate) enum $name {}

        impl Xdr for $name {
            fn skip(c: &mut Cursor<'_>) -> Step {
                match c.int()? {
                    $case => Ok(()),
                    _ => c.back(4, concat!("not a value of ", stringify!($name))),
                }
            }
        }
    };
}

pub(crate) use {define, xdr};
