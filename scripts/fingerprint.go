package scripts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
)

// fingerprint describes the state of the SR at $SR_PATH, so that a refusal can be
// held to its word. For our own SRs that is every file but the lock files; for
// others, what SR.ls tells.
func (s *script) fingerprint() (string, error) {
	if !s.config.Own {
		if s.ts.Getenv("SR") == "" {
			return "", nil
		}
		last, refused, naming := s.last, s.refusal, s.naming
		s.naming = false
		defer func() { s.last, s.refusal, s.naming = last, refused, naming }()
		v, err := s.mustCall(smapi.SRLs{SR: s.ts.Getenv("SR")})
		if err != nil {
			return err.Error(), nil
		}
		return inKeyOrder(v), nil
	}
	path := s.ts.Getenv("SR_PATH")
	if path == "" {
		return "", nil
	}
	var b strings.Builder
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		name, _ := filepath.Rel(path, p)
		if name == ".reflinksr/locks" {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if name == ".reflinksr/lock" || name == ".reflinksr/leases.lock" || name == ".reflinksr/cbt.lock" || name == ".reflinksr/sequence" || unix.Lstat(p, &st) != nil {
			return nil
		}
		if d.IsDir() {
			fmt.Fprintf(&b, "%s %o\n", name, st.Mode)
			return nil
		}
		content := ""
		text := strings.HasSuffix(name, ".inf") || strings.HasSuffix(name, ".json")
		if d.Type().IsRegular() && (text && st.Size < 4<<20 || st.Size < 64<<10) {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			content = fmt.Sprintf(" %x", sha256.Sum256(data))[:17]
		}
		fmt.Fprintf(&b, "%s %o %d bytes inode %d links %d%s\n", name, st.Mode, st.Size, st.Ino, st.Nlink, content)
		return nil
	})
	return b.String(), err
}

// inKeyOrder is the answer of SR.ls, which comes in any order.
func inKeyOrder(v any) string {
	volumes, _ := v.([]any)
	var lines []string
	for _, volume := range volumes {
		lines = append(lines, encode(volume))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
