//! Stands in for the parts of glibc that the released programs link and never run.
//!
//! A static program carries whatever something in glibc might call. A function of ours by the same name comes first: the
//! linker then leaves out glibc's, and all that only glibc's needs. That is a sixth of a program. Debug builds link glibc's
//! own. What is left out: `-Wl,-Map` shows what is linked, `-Wl,--why-extract` (lld) why.

use std::ffi::CStr;

use nix::libc::{
    _SC_PAGESIZE, AT_PHDR, AT_PHNUM, ENOSYS, Elf64_Phdr, PROT_READ, PT_GNU_RELRO, abort, c_char, c_int,
    c_long, c_ulong, c_void, getauxval, mprotect, pthread_attr_t, pthread_t, strlen, sysconf, write,
};

/// What the linker asks for and nobody calls.
macro_rules! never_called {
    ($($name:ident)*) => { $(
        // SAFETY: the name of glibc or of the unwinder; takes nothing, and does not return.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )* };
}

/// std asks where the stack ends, to say so when it has overflowed. glibc reads /proc/self/maps for that by sscanf, with
/// 85 KB of number parsers. Without an answer std says nothing, and the overflow still ends us by SIGSEGV.
// SAFETY: glibc's name and signature; takes nothing, gives nothing, and says so.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_thread: pthread_t, _attributes: *mut pthread_attr_t) -> c_int {
    ENOSYS
}

/// The unwinder's, not glibc's. Released programs carry no unwind tables (see build.rs), so a backtrace of a panic would be
/// empty in any case. That it is known to be empty takes std's readers of debug information out of the programs, an eighth
/// of them. The panic's message and place are still told.
// SAFETY: the unwinder's name and signature (Itanium C++ ABI, 1.6); calls nothing back, and says "end of stack".
#[cfg(all(target_arch = "x86_64", panic = "abort"))]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _trace: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    _argument: *mut c_void,
) -> c_int {
    5
}

/// The rest of the unwinder: 22 KB with its search for the tables that released programs do not carry. A panic aborts, and no
/// thread is cancelled or leaves by pthread_exit; so nobody calls these. Whoever did would find no table, and abort as well.
#[cfg(all(target_arch = "x86_64", panic = "abort"))]
mod unwinder {
    // What std's and glibc's code names (Itanium C++ ABI, 1.3 to 1.6, and GCC's additions).
    never_called! {
        _Unwind_ForcedUnwind _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData
        _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_Resume _Unwind_SetGR _Unwind_SetIP __gcc_personality_v0
    }
}

/// glibc's own files and formatted printing, with floating-point numbers, wide characters and locales: 120 KB. Rust writes and formats
/// by itself; glibc only prints what nobody asks for: malloc's statistics. These say that nothing was written.
mod printing {
    use super::{c_char, c_int, c_void};

    macro_rules! fails {
        ($($name:ident)*) => { $(
            // SAFETY: glibc's name and result (stdio.h); the arguments are not looked at.
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> c_int {
                -1
            }
        )* };
    }

    fails! { fprintf _IO_fputs sprintf __vfprintf_internal }

    // SAFETY: glibc's name and result: how many were written.
    #[unsafe(no_mangle)]
    extern "C" fn fwrite() -> usize {
        0
    }

    /// The text of an error without a name, of which std still tells the number.
    // SAFETY: glibc's name and signature; room for so many bytes, of which one ends the string.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __snprintf(to: *mut c_char, room: usize) -> c_int {
        if room > 0 {
            // SAFETY: as above.
            unsafe { to.write(0) };
        }
        0
    }

    macro_rules! there_are_none {
        ($($name:ident)*) => { $(
            // SAFETY: glibc's name (libioP.h): locks the list of all open files, or gives one of it. A lock's result is not looked at.
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> *mut c_void {
                std::ptr::null_mut()
            }
        )* };
    }

    // What threads and forks do with open files.
    there_are_none! {
        __printf_buffer _IO_enable_locks _IO_list_lock _IO_list_unlock _IO_list_resetlock _IO_iter_begin _IO_iter_end _IO_iter_next _IO_iter_file
    }

    /// A file that is never written to.
    // SAFETY: glibc's name and size; a pointer that is not followed.
    #[unsafe(no_mangle)]
    static stderr: std::sync::atomic::AtomicPtr<c_void> =
        std::sync::atomic::AtomicPtr::new(std::ptr::null_mut());
}

/// Ends the program when an assertion inside glibc fails. glibc formats and translates the message; this one writes the
/// assertion as it is.
// SAFETY: glibc's name and signature; both texts of an assertion are constants that end with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn __assert_fail(assertion: *const c_char) -> ! {
    // SAFETY: as above; write reads what strlen has measured, and abort takes nothing.
    unsafe {
        write(2, assertion.cast(), strlen(assertion));
        abort()
    }
}

/// Translates a message of glibc's: catalogues, plural forms and character sets. No language is ever chosen here,
/// and where none is, a message stays as it is.
// SAFETY: glibc's name and signature; hands back the second argument, and looks at none.
#[unsafe(no_mangle)]
extern "C" fn __dcgettext(_domain: *const c_char, message: *mut c_char, _category: c_int) -> *mut c_char {
    message
}

/// How the locale of C converts wide characters, which nobody writes here; with what chooses and loads other locales and
/// conversions, 80 KB.
// SAFETY: glibc's name and size (wcsmbsload.h): no conversion in either direction, none of which is looked at.
#[unsafe(no_mangle)]
static __wcsmbs_gconv_fcts_c: [usize; 4] = [0; 4];

/// Gives a file of wide characters its conversions. No such file is ever opened.
// SAFETY: glibc's name; does not return.
#[unsafe(no_mangle)]
extern "C" fn __wcsmbs_clone_conv() -> ! {
    std::process::abort()
}

/// As `__wcsmbs_clone_conv`, for a character set that is named where the file is opened.
// SAFETY: as there.
#[unsafe(no_mangle)]
extern "C" fn __wcsmbs_named_conv() -> ! {
    std::process::abort()
}

/// Reads /etc/resolv.conf, for which every thread has a place: 50 KB. No name is looked up by us, and a look-up would fail.
// SAFETY: glibc's names and results; the arguments are not looked at.
#[unsafe(no_mangle)]
extern "C" fn __res_vinit() -> c_int {
    -1
}

/// As `__res_vinit`: no configuration.
// SAFETY: as there.
#[unsafe(no_mangle)]
extern "C" fn __resolv_conf_load() -> *mut c_void {
    std::ptr::null_mut()
}

/// Compares names of character sets, with 22 KB of code for each generation of processors. Right but for the order of two
/// that differ, which nobody asks for.
// SAFETY: glibc's name and signature; both are strings that end with a zero, and the locale is not looked at.
#[unsafe(no_mangle)]
unsafe extern "C" fn __strcasecmp_l(one: *const c_char, other: *const c_char) -> c_int {
    // SAFETY: as above.
    let [one, other] = unsafe { [CStr::from_ptr(one), CStr::from_ptr(other)] };
    (!one.to_bytes().eq_ignore_ascii_case(other.to_bytes())).into()
}

/// Compares two strings, or so much of them. glibc has these for each generation of processors, too: 29 KB. What it compares
/// for itself are a few names at the start.
// SAFETY: glibc's name and signature; both are strings that end with a zero, or are as long as is compared.
#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(one: *const c_char, other: *const c_char, most: usize) -> c_int {
    for at in 0..most {
        // SAFETY: as above: what is before the first zero, or difference, is in both.
        let [one, other] = unsafe { [*one.add(at), *other.add(at)] }.map(c_char::cast_unsigned);
        if one != other || one == 0 {
            return c_int::from(one) - c_int::from(other);
        }
    }
    0
}

/// As `strncmp`, the whole strings.
// SAFETY: as there.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcmp(one: *const c_char, other: *const c_char) -> c_int {
    // SAFETY: as there.
    unsafe { strncmp(one, other, usize::MAX) }
}

/// Copies a string, and says where its end is. With `strcpy`, 10 KB for all processors.
// SAFETY: glibc's name and signature; a string that ends with a zero, and room for it.
#[unsafe(no_mangle)]
unsafe extern "C" fn __stpcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe {
        let length = strlen(from);
        from.copy_to(to, length + 1);
        to.add(length)
    }
}

/// As `__stpcpy`, and says where its start is.
// SAFETY: as there.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as there.
    unsafe { __stpcpy(to, from) };
    to
}

/// Finds a function by its name while the program runs. std asks so for what not every glibc has; a static program has no
/// more than what is linked.
// SAFETY: glibc's name and result; the arguments are not looked at.
#[unsafe(no_mangle)]
extern "C" fn dlsym() -> *mut c_void {
    std::ptr::null_mut()
}

/// Loads a library: 17 KB with `dlsym`. Only conversions between character sets and look-ups of names would.
// SAFETY: as there.
#[unsafe(no_mangle)]
extern "C" fn _dl_open() -> *mut c_void {
    std::ptr::null_mut()
}

/// Reads the numbers that glibc asks the kernel's files for: how many processors there are, how many groups a user may be in.
/// glibc's look at the locale for spaces and signs, and bring all its locales along: 70 KB.
// SAFETY: glibc's name and signature; a string that ends with a zero, and a place for where the number ends, or none.
#[unsafe(no_mangle)]
unsafe extern "C" fn strtoul(text: *const c_char, end: *mut *const c_char, _base: c_int) -> c_ulong {
    let mut at = text;
    let mut number: c_ulong = 0;
    // SAFETY: as above: nothing is read after what is no digit, as the zero is none.
    while let digit @ b'0'..=b'9' = unsafe { *at }.cast_unsigned() {
        number = number.saturating_mul(10).saturating_add(c_ulong::from(digit - b'0'));
        // SAFETY: as above.
        at = unsafe { at.add(1) };
    }
    if !end.is_null() {
        // SAFETY: as above.
        unsafe { end.write(at) };
    }
    number
}

/// As `strtoul`: these numbers are never negative.
// SAFETY: as there.
#[unsafe(no_mangle)]
unsafe extern "C" fn strtol(text: *const c_char, end: *mut *const c_char, base: c_int) -> c_long {
    // SAFETY: as there.
    unsafe { strtoul(text, end, base) }.cast_signed()
}

/// Gives each thread the locale's classes of characters. Rust has its own, and glibc asks for none here.
// SAFETY: glibc's name; takes and gives nothing.
#[unsafe(no_mangle)]
extern "C" fn __ctype_init() {}

/// Loading of libraries has no other users left than these, and its 40 KB go with them.
mod loading {
    use super::*;

    /// Where libraries are looked for: nowhere.
    // SAFETY: glibc's name; the arguments are not looked at, and nothing is given.
    #[unsafe(no_mangle)]
    extern "C" fn _dl_init_paths() {}

    /// Makes a stack executable, where a library needs it.
    // SAFETY: glibc's name and result, an error's number; the argument is not looked at.
    #[unsafe(no_mangle)]
    extern "C" fn __nptl_change_stack_perm() -> c_int {
        ENOSYS
    }

    // What a broken program or library comes to (ldsodefs.h, dl-machine.h).
    never_called! { _dl_reloc_bad_type _dl_allocate_static_tls _dl_signal_error _dl_signal_exception }

    /// Takes the right to write from what is only written while the program relocates itself.
    // SAFETY: glibc's name and signature: the program's own link_map, which begins with the address it is loaded at (link.h).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn _dl_protect_relro(program: *const usize) {
        // SAFETY: the kernel has put the program's own headers there, and says how many (getauxval(3)); what is protected is ours, and
        // whole pages: the linker has seen to it, and glibc rounds in the same way.
        unsafe {
            let page = sysconf(_SC_PAGESIZE).cast_unsigned() as usize;
            let headers = std::slice::from_raw_parts(
                getauxval(AT_PHDR) as *const Elf64_Phdr,
                getauxval(AT_PHNUM) as usize,
            );
            for header in headers.iter().filter(|header| header.p_type == PT_GNU_RELRO) {
                let start = *program + header.p_vaddr as usize;
                let end = (start + header.p_memsz as usize) & !(page - 1);
                let start = start & !(page - 1);
                if mprotect(start as *mut c_void, end - start, PROT_READ) != 0 {
                    std::process::abort();
                }
            }
        }
    }
}
