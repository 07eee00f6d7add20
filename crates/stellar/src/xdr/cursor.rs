/// Why bytes were refused. The cursor stands where it happened, so the reason carries no offset and fits two registers.
pub(crate) type Step<T = ()> = Result<T, &'static str>;

/// How deep recursive types may nest: as deep as any network accepts, shallow enough for any thread's stack.
const MAX_DEPTH: u32 = 500;

/// A place in bytes of XDR. Every read is checked; nothing is copied or allocated.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0, depth: 0 }
    }

    /// How many bytes lie behind.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// How many bytes lie ahead.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes from `start`, an earlier offset, to here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// Steps over `n` bytes.
    #[inline(always)]
    pub(crate) fn advance(&mut self, n: usize) -> Step {
        if n > self.left() {
            return Err("the bytes end here");
        }
        self.at += n;
        Ok(())
    }

    /// The next `N` bytes.
    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Step<&'a [u8; N]> {
        let next = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let array = next.ok_or("the bytes end here")?;
        self.at += N;
        Ok(array)
    }

    /// An unsigned int.
    #[inline(always)]
    pub(crate) fn u32(&mut self) -> Step<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A signed int.
    #[inline(always)]
    pub(crate) fn int(&mut self) -> Step<i32> {
        self.array().map(|bytes| i32::from_be_bytes(*bytes))
    }

    /// A signed hyper.
    #[inline(always)]
    pub(crate) fn hyper(&mut self) -> Step<i64> {
        self.array().map(|bytes| i64::from_be_bytes(*bytes))
    }

    /// A boolean, or whether an optional value follows.
    #[inline(always)]
    pub(crate) fn flag(&mut self) -> Step<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => self.back(4, "neither 0 nor 1"),
        }
    }

    /// The length of a list of at most `max` items. Every item of XDR has at least four bytes.
    #[inline(always)]
    pub(crate) fn count(&mut self, max: u32) -> Step<usize> {
        let count = self.u32()?;
        if count > max {
            return self.back(4, "more items than the type allows");
        }
        let count = count as usize;
        if count > self.left() / 4 {
            return self.back(4, "more items than bytes are left for");
        }
        Ok(count)
    }

    /// Opaque bytes or a string of at most `max` bytes, padded with zeroes to a multiple of four.
    #[inline(always)]
    pub(crate) fn opaque(&mut self, max: u32) -> Step<&'a [u8]> {
        let len = self.u32()?;
        if len > max {
            return self.back(4, "longer than the type allows");
        }
        let (start, len) = (self.at, len as usize);
        self.advance(len)?;
        let body = self.since(start);
        self.advance(len.wrapping_neg() % 4)?;
        if self.since(start + len).iter().any(|&byte| byte != 0) {
            self.at = start + len;
            return Err("padding is not zero");
        }
        Ok(body)
    }

    /// Refuses the last `n` bytes.
    #[cold]
    pub(crate) fn back<T>(&mut self, n: usize, why: &'static str) -> Step<T> {
        self.at -= n;
        Err(why)
    }

    /// Steps into a type that can contain itself; [`leave`](Cursor::leave) steps out.
    pub(crate) fn enter(&mut self) -> Step {
        if self.depth == MAX_DEPTH {
            return Err("nested too deep");
        }
        self.depth += 1;
        Ok(())
    }

    /// Undoes an [`enter`](Cursor::enter).
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Refuses bytes that follow.
    pub(crate) fn end(&self) -> Step {
        if self.left() == 0 { Ok(()) } else { Err("bytes follow the end") }
    }
}
