//! The one integration binary.

#![forbid(unsafe_code)]

mod native {
    mod damage;
    mod golden;
    mod search;
    mod support;
}
