//! Recycling of large blocks, installed as the process's allocator wherever this crate is linked.
//!
//! A training step takes and drops gigabytes in blocks of megabytes. The system's allocator hands such blocks back to the
//! kernel at once and gets them again page by page, zeroed: a quarter of a step's time (measured: 6,300 to 9,500 tokens a
//! second of processor time without those page faults). Here a dropped block of 64 KiB or more goes to the free list of
//! its size class and is taken from there the next time; sizes are rounded up to quarters of a power of two, so at most a
//! quarter of a block is idle. Blocks of 2 MiB and more ask for huge pages. What lies idle is bounded: beyond
//! [`IDLE_LIMIT`] a dropped block goes back to the system.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks from this size on are recycled.
const LEAST: usize = 1 << 16;

/// Idle bytes kept at most.
const IDLE_LIMIT: usize = 4 << 30;

/// Size of a huge page, and the alignment of blocks at least that large.
const HUGE: usize = 1 << 21;

/// Alignment of smaller recycled blocks: a page.
const PAGE: usize = 1 << 12;

/// Four classes for each power of two from [`LEAST`] to 2^47.
const N_CLASSES: usize = 4 * 32;

/// Heads of the free lists; an idle block's first word is the address of the next one, 0 at the end.
static FREE: [Mutex<usize>; N_CLASSES] = [const { Mutex::new(0) }; N_CLASSES];

static IDLE: AtomicUsize = AtomicUsize::new(0);

struct Recycler;

#[global_allocator]
static RECYCLER: Recycler = Recycler;

/// Class and layout of the block that serves `layout`; `None` for what the system serves.
fn class(layout: Layout) -> Option<(usize, Layout)> {
    let size = layout.size();
    if !(LEAST..=1 << 46).contains(&size) || layout.align() > PAGE {
        return None;
    }
    let power = (usize::BITS - 1 - size.leading_zeros()) as usize;
    let quarter = 1usize << (power - 2);
    // Quarters above the power of two, rounded up: 0 to 4.
    let above = (size - (1 << power)).div_ceil(quarter);
    let index = (power - 16) * 4 + above;
    let rounded = (1usize << power) + above * quarter;
    let align = if rounded >= HUGE { HUGE } else { PAGE };
    Some((index, Layout::from_size_align(rounded, align).ok()?))
}

/// Takes an idle block of a class.
fn take(index: usize, block: Layout) -> Option<*mut u8> {
    let mut head = FREE[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pointer = *head as *mut u8;
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the list holds only blocks put there by `put`, which wrote a word at the start and handed over the only
    // pointer to the block; blocks are aligned to a page.
    *head = unsafe { pointer.cast::<usize>().read() };
    IDLE.fetch_sub(block.size(), Ordering::Relaxed);
    Some(pointer)
}

/// Puts a block on its class's list; false where enough lies idle.
fn put(index: usize, block: Layout, pointer: *mut u8) -> bool {
    if IDLE.fetch_add(block.size(), Ordering::Relaxed) + block.size() > IDLE_LIMIT {
        IDLE.fetch_sub(block.size(), Ordering::Relaxed);
        return false;
    }
    let mut head = FREE[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: the caller gives up the block, which is at least 64 KiB and aligned to a page.
    unsafe { pointer.cast::<usize>().write(*head) };
    *head = pointer as usize;
    true
}

/// A fresh block of the system, on huge pages where it is large.
///
/// # Safety
/// `block` has a size above 0.
unsafe fn fresh(block: Layout, zeroed: bool) -> *mut u8 {
    // SAFETY: the caller's promise is the system allocator's precondition.
    let pointer = unsafe {
        if zeroed && block.size() < HUGE { System.alloc_zeroed(block) } else { System.alloc(block) }
    };
    if pointer.is_null() || block.size() < HUGE {
        return pointer;
    }
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the range is a live block of ours, aligned to a huge page; the advice changes no content.
        unsafe { libc::madvise(pointer.cast(), block.size(), libc::MADV_HUGEPAGE) };
    }
    if zeroed {
        // SAFETY: the block was just allocated with this size.
        unsafe { pointer.write_bytes(0, block.size()) };
    }
    pointer
}

// SAFETY: small and over-aligned layouts go to the system unchanged. Every other layout maps to one class by `class`, a
// function of size and alignment class alone, so `dealloc` and `realloc` find the same class as `alloc` did; a class's
// blocks are at least as large as any layout of it, aligned to a page or more, and on a free list only between `dealloc`
// and the next `alloc`. Nothing here allocates or unwinds: `Mutex` does neither on a lock, and poisoning is ignored.
unsafe impl GlobalAlloc for Recycler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: passed through unchanged, under the caller's promise.
            None => unsafe { System.alloc(layout) },
            // SAFETY: a recycled layout is at least 64 KiB.
            Some((index, block)) => take(index, block).unwrap_or_else(|| unsafe { fresh(block, false) }),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: passed through unchanged, under the caller's promise.
            None => unsafe { System.alloc_zeroed(layout) },
            Some((index, block)) => match take(index, block) {
                Some(pointer) => {
                    // SAFETY: the block is at least as large as the layout and belongs to this call.
                    unsafe { pointer.write_bytes(0, layout.size()) };
                    pointer
                }
                // SAFETY: a recycled layout is at least 64 KiB.
                None => unsafe { fresh(block, true) },
            },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match class(layout) {
            // SAFETY: passed through unchanged, under the caller's promise.
            None => unsafe { System.dealloc(pointer, layout) },
            Some((index, block)) => {
                if !put(index, block, pointer) {
                    // SAFETY: the block came from `fresh` with this very layout and is on no list.
                    unsafe { System.dealloc(pointer, block) };
                }
            }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, is a valid size.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class(layout), class(wanted)) {
            // SAFETY: both sizes are the system's, so the pointer is too.
            (None, None) => unsafe { System.realloc(pointer, layout, new_size) },
            (Some((old, _)), Some((new, _))) if old == new => pointer,
            _ => {
                // SAFETY: `wanted` is valid as above; old and new block do not overlap, and both hold the smaller size.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(pointer, layout.size().min(new_size));
                        self.dealloc(pointer, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_large_enough_and_wastes_at_most_a_quarter() {
        let mut last = 0;
        for size in (LEAST..LEAST * 40).step_by(4_093).chain([1 << 30, (1 << 30) + 1, (1 << 46) - 1]) {
            let (index, block) = class(Layout::from_size_align(size, 4).unwrap()).unwrap();
            assert!(index < N_CLASSES && index >= last);
            assert!(block.size() >= size && block.size() - size <= size / 4, "{size} in {}", block.size());
            // Every size of a class has one block size.
            assert_eq!(class(Layout::from_size_align(block.size(), 4).unwrap()).unwrap(), (index, block));
            last = index;
        }
        assert!(class(Layout::from_size_align(LEAST - 1, 4).unwrap()).is_none());
        assert!(class(Layout::from_size_align(LEAST, 2 * PAGE).unwrap()).is_none());
    }

    #[test]
    fn blocks_keep_their_content_and_zeroed_ones_are_zero() {
        std::thread::scope(|scope| {
            for seed in 0..4usize {
                scope.spawn(move || {
                    let mut kept: Vec<Vec<usize>> = Vec::new();
                    for round in 0..200 {
                        let n = 9_000 + (round * 7_919 + seed * 104_729) % 400_000;
                        let zeros = vec![0usize; n];
                        assert!(zeros.iter().all(|v| *v == 0));
                        let mut block = Vec::with_capacity(n / 3);
                        block.resize(n, round);
                        kept.push(block);
                        if kept.len() > 6 {
                            let old = kept.remove(round % 5);
                            assert!(old.iter().all(|v| *v == old[0]));
                        }
                    }
                });
            }
        });
    }
}
