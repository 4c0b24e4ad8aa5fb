//! The one integration binary.

#![forbid(unsafe_code)]

mod native {
    mod damage;
    mod golden;
    mod lazy;
    mod life;
    mod map;
    mod rerank;
    mod search;
    mod support;
    mod words;
}
