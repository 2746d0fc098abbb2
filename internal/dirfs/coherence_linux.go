package dirfs

import (
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// coherence is what depends on whether other hosts change the same directory: of a local filesystem (local) nothing
// has to be asked, of a server's (nfs) all that this host remembers.
type coherence interface {
	// current makes a look of the directory that meets what is there now.
	current(d *Dir, look func() error) error
	// renew has a name asked for anew before it is looked at.
	renew(d *Dir, name string)
	// revalidate has the names of the directory asked for anew.
	revalidate(d *Dir) error
	// retryReplaced is Dir.RetryReplaced.
	retryReplaced(d *Dir, beside string, look func() error) error
	// lockSelf is Dir.LockSelf.
	lockSelf(d *Dir) (*Lock, error)
	// mayWrite is Dir.MayWrite.
	mayWrite(d *Dir, f *os.File, err error) error
	// remote is Dir.Remote.
	remote() bool
}

// coherenceOf is that of the filesystem that holds an open file.
func coherenceOf(f *os.File) (coherence, error) {
	st, err := sys.Fstatfs(f)
	if err == nil && int64(st.Type) == unix.NFS_SUPER_MAGIC {
		return nfs{}, nil
	}
	return local{}, err
}

// Remote says whether it is on NFS.
func (d *Dir) Remote() bool { return d.shared.remote() }

// Revalidate makes this host ask the server before it believes what it remembers of the
// names in the directory. Only NFS remembers.
func (d *Dir) Revalidate() error { return d.shared.revalidate(d) }

// RetryReplaced repeats look for as long as it is os.ErrNotExist by chance: on NFS a file
// that is replaced while a process of the same host has it open is renamed first, and
// its name is nobody's for a moment (nfs_rename in fs/nfs/dir.c). It is absent for good
// if the name beside, which goes at the same time, is.
func (d *Dir) RetryReplaced(beside string, look func() error) error {
	return d.shared.retryReplaced(d, beside, look)
}

// LockSelf locks a directory that is, was or may become an SR's. Nothing of that is
// left in it.
func (d *Dir) LockSelf() (*Lock, error) { return d.shared.lockSelf(d) }

// MayWrite refuses an export whose server does not take our root for root. f is a file that was
// made there, and err what came of that.
func (d *Dir) MayWrite(f *os.File, err error) error { return d.shared.mayWrite(d, f, err) }

// local is a filesystem that only this host changes: what it says is so.
type local struct{}

func (local) current(_ *Dir, look func() error) error                 { return look() }
func (local) renew(*Dir, string)                                      {}
func (local) revalidate(*Dir) error                                   { return nil }
func (local) retryReplaced(_ *Dir, _ string, look func() error) error { return look() }
func (local) lockSelf(d *Dir) (*Lock, error)                          { return d.lockOpen() }
func (local) mayWrite(_ *Dir, _ *os.File, err error) error            { return err }
func (local) remote() bool                                            { return false }
