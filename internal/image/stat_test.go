package image

import (
	"os"
	"syscall"
)

func allocated(st os.FileInfo) int64 { return st.Sys().(*syscall.Stat_t).Blocks * 512 }
