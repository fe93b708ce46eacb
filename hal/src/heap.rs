//! The process's heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Blocks that are kept; as many as one thread fills while others write.
const KEPT_MAX: usize = 4;

/// The system's allocator, with one habit more: of the blocks of `BYTES` bytes, aligned to `ALIGN`, the last few that were
/// freed are kept for the next who asks. An allocator gives a block of that size back to the kernel at once and takes a
/// new one, page by page; for a log that fills such buffers one after the other that was a fifth of its time (measured).
#[derive(Debug)]
pub struct KeepingHeap<const BYTES: usize, const ALIGN: usize> {
    /// Null: nothing is kept there.
    kept: [AtomicPtr<u8>; KEPT_MAX],
}

impl<const BYTES: usize, const ALIGN: usize> KeepingHeap<BYTES, ALIGN> {
    /// Nothing is kept yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: [const { AtomicPtr::new(null_mut()) }; KEPT_MAX] }
    }

    fn is_of_kind(layout: Layout) -> bool {
        layout.size() == BYTES && layout.align() == ALIGN
    }
}

impl<const BYTES: usize, const ALIGN: usize> Default for KeepingHeap<BYTES, ALIGN> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every block comes from `System` and goes back to it with the layout it came with. A kept block is owned by its
// slot alone: it was given up by whoever freed it, and the swap hands it to one caller only. Only blocks of one layout are
// kept and only those are asked for. Nothing here allocates or panics.
unsafe impl<const BYTES: usize, const ALIGN: usize> GlobalAlloc for KeepingHeap<BYTES, ALIGN> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Self::is_of_kind(layout) {
            for slot in &self.kept {
                // Acquire: what the last owner wrote comes before what the next one writes.
                let block = slot.swap(null_mut(), Ordering::Acquire);
                if !block.is_null() {
                    return block;
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if Self::is_of_kind(layout) {
            for slot in &self.kept {
                if slot.compare_exchange(null_mut(), block, Ordering::Release, Ordering::Relaxed).is_ok() {
                    return;
                }
            }
        }
        // SAFETY: the caller's promise; it came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise. A kept block is not zero.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise; it came from `System`.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

/// Tells the allocator to give free memory back at 128 KiB. glibc otherwise keeps what a burst of a journal replay
/// has touched: resident memory was measured at more than twice as much. musl has no such habit.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers, has no preconditions and is called before other threads allocate.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        // One arena: the agent has three threads, and an arena each costs more than the lock it saves.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Layout = Layout::new::<[u64; 512]>();

    /// Takes a block of that layout from the heap, as the language would.
    fn take<const BYTES: usize, const ALIGN: usize>(heap: &KeepingHeap<BYTES, ALIGN>, layout: Layout) -> *mut u8 {
        // SAFETY: no layout here is of size 0.
        let block = unsafe { heap.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: it has that size.
        unsafe { block.write_bytes(0xA5, layout.size()) };
        block
    }

    #[test]
    fn a_block_of_the_kind_is_kept_and_given_again_and_only_to_one() {
        let heap = KeepingHeap::<4096, 8>::new();
        let first = take(&heap, KIND);
        // SAFETY: it came from there with this layout.
        unsafe { heap.dealloc(first, KIND) };
        let (again, other) = (take(&heap, KIND), take(&heap, KIND));
        assert_eq!(again, first);
        assert_ne!(other, first);
        // SAFETY: as above.
        unsafe {
            heap.dealloc(again, KIND);
            heap.dealloc(other, KIND);
        }
    }

    #[test]
    fn what_is_of_another_kind_and_what_is_too_much_goes_back_to_the_system() {
        let heap = KeepingHeap::<4096, 8>::new();
        let kept = |heap: &KeepingHeap<4096, 8>| {
            heap.kept.iter().filter(|slot| !slot.load(Ordering::Relaxed).is_null()).count()
        };
        let others = [Layout::new::<[u64; 511]>(), Layout::from_size_align(4096, 64).expect("a power of two")];
        for layout in others {
            let block = take(&heap, layout);
            // SAFETY: it came from there with this layout.
            unsafe { heap.dealloc(block, layout) };
        }
        assert_eq!(kept(&heap), 0);
        let blocks: Vec<_> = (0..KEPT_MAX + 3).map(|_| take(&heap, KIND)).collect();
        for block in blocks {
            // SAFETY: it came from there with this layout.
            unsafe { heap.dealloc(block, KIND) };
        }
        assert_eq!(kept(&heap), KEPT_MAX);
        // SAFETY: 4096 bytes are there.
        let zeroed = unsafe { std::slice::from_raw_parts(heap.alloc_zeroed(KIND), 4096) };
        assert!(zeroed.iter().all(|&byte| byte == 0), "a block that was kept is not zero");
    }
}
