//! Properties of the sources under arbitrary input. Each function panics when one breaks.
#![allow(missing_docs)]
