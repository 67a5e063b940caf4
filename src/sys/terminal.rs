//! Pseudoterminals: the calls of ioctl_tty(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

mod request {
    #![allow(missing_docs)] // the macros leave no room for them
    nix::ioctl_write_ptr_bad!(tiocsptlck, libc::TIOCSPTLCK, libc::c_int);
    nix::ioctl_read_bad!(tiocgptn, libc::TIOCGPTN, libc::c_uint);
    nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);
    nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);
    nix::ioctl_read_bad!(tiocgwinsz, libc::TIOCGWINSZ, libc::winsize);
}
use request::{tiocgptn, tiocgwinsz, tiocsctty, tiocsptlck, tiocswinsz};

/// Unlocks the other end of a new pseudoterminal.
pub fn unlock(master: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the descriptor is open and the argument is an int, as TIOCSPTLCK takes it.
    unsafe { tiocsptlck(master.as_raw_fd(), &0) }.map(drop)
}

/// The number of a pseudoterminal: its name is `/dev/pts/<number>`.
pub fn number(master: BorrowedFd<'_>) -> nix::Result<u32> {
    let mut number = 0;
    // SAFETY: the descriptor is open and the argument is an unsigned int, as TIOCGPTN takes it.
    unsafe { tiocgptn(master.as_raw_fd(), &mut number) }?;
    Ok(number)
}

/// Opens the other end without a path (TIOCGPTPEER, Linux 4.13): nothing in the container can stand in for it.
pub fn peer(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    const FLAGS: libc::c_int = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open and the argument is passed by value.
    let fd = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, FLAGS) }.into())?;
    // SAFETY: the kernel opened a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes this terminal the controlling one of the caller's session.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the descriptor is open and the argument is passed by value.
    unsafe { tiocsctty(terminal.as_raw_fd(), 0) }.map(drop)
}

/// Sets the window size, in characters.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open and the argument is a winsize.
    unsafe { tiocswinsz(terminal.as_raw_fd(), &size) }.map(drop)
}

/// The window size in characters: rows and columns.
pub fn size(terminal: BorrowedFd<'_>) -> nix::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open and the argument is a winsize.
    unsafe { tiocgwinsz(terminal.as_raw_fd(), &mut size) }?;
    Ok((size.ws_row, size.ws_col))
}
