package filesystem

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/sys"
	"reflinksr/internal/units"
	"reflinksr/internal/uuids"
)

// quota is what is left of the tightest limit that counts a directory of btrfs: of its
// subvolume's qgroup, or of one that that is in.
type quota struct {
	group       uint64
	limit, left int64 // bytes
}

func (q quota) String() string {
	return fmt.Sprintf("btrfs qgroup %d/%d (%s)", q.group>>48, q.group&(1<<48-1), units.Bytes(q.limit))
}

const (
	btrfsIocInoLookup   = 0xd0009412 // BTRFS_IOC_INO_LOOKUP
	btrfsFirstFree      = 256        // BTRFS_FIRST_FREE_OBJECTID
	btrfsQuotaTree      = 8          // BTRFS_QUOTA_TREE_OBJECTID
	btrfsQgroupInfo     = 242        // BTRFS_QGROUP_INFO_KEY: (0, this, group)
	btrfsQgroupLimit    = 244        // BTRFS_QGROUP_LIMIT_KEY: (0, this, group)
	btrfsQgroupRelation = 246        // BTRFS_QGROUP_RELATION_KEY: (group, this, other), both ways
	btrfsLimitRfer      = 1 << 0     // BTRFS_QGROUP_LIMIT_MAX_RFER
	btrfsLimitExcl      = 1 << 1     // BTRFS_QGROUP_LIMIT_MAX_EXCL
)

// quotaOf asks btrfs for the directory's: there is false where nothing is limited, or where
// only root may ask.
func quotaOf(d *dirfs.Dir) (tightest quota, there bool, err error) {
	lookup := struct {
		treeID, objectID uint64
		name             [4080]byte
	}{objectID: btrfsFirstFree}
	err = sys.Ioctl(d.File(), btrfsIocInoLookup, unsafe.Pointer(&lookup))
	groups, seen := []uint64{lookup.treeID}, map[uint64]bool{}
	for i := 0; i < len(groups) && err == nil; i++ {
		var parents []uint64
		if parents, err = qgroupParents(d, groups[i]); err == nil {
			for _, p := range parents { // one that is reached by several ways counts once
				if !seen[p] {
					seen[p] = true
					groups = append(groups, p)
				}
			}
			var q quota
			var limited bool
			if q, limited, err = qgroupOf(d, groups[i]); limited && (!there || q.left < tightest.left) {
				tightest, there = q, true
			}
		}
	}
	if err == unix.ENOENT || err == unix.EPERM { // no quota tree, not as root
		return quota{}, false, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: asking btrfs for its quota: %w", d.Path(), err)
	}
	return tightest, there, err
}

// qgroupParents are the groups that one is in directly: of a higher level. Its members, of
// which there may be more than one search finds, have the same kind of item.
func qgroupParents(d *dirfs.Dir, group uint64) (parents []uint64, err error) {
	next := (group>>48 + 1) << 48
	for next != 0 { // there is no level above the highest
		s := extent.TreeSearch{TreeID: btrfsQuotaTree, MinObject: group, MaxObject: group, MinOffset: next, MaxOffset: ^uint64(0), MinType: btrfsQgroupRelation, MaxType: btrfsQgroupRelation}
		next = 0
		err = s.Search(d.File(), func(_ uint64, _ uint32, other uint64, _ []byte) {
			parents = append(parents, other)
			next = other + 1
		})
		if err != nil {
			return nil, err
		}
	}
	return parents, nil
}

// qgroupOf says what is left of one group's limits. The tree has what was counted when the
// last transaction ended; what has been promised since, which counts against the limit
// as well, the kernel tells in sysfs (Linux 5.9).
func qgroupOf(d *dirfs.Dir, group uint64) (q quota, limited bool, err error) {
	u64 := binary.LittleEndian.Uint64
	var flags uint64
	var most, used [2]uint64 // referenced, exclusive
	read := func(_ uint64, kind uint32, _ uint64, item []byte) {
		switch {
		case kind == btrfsQgroupInfo && len(item) >= 40:
			used = [2]uint64{u64(item[8:]), u64(item[24:])}
		case kind == btrfsQgroupLimit && len(item) >= 24:
			flags, most = u64(item), [2]uint64{u64(item[8:]), u64(item[16:])}
		}
	}
	for _, kind := range []uint32{btrfsQgroupLimit, btrfsQgroupInfo} {
		s := extent.TreeSearch{TreeID: btrfsQuotaTree, MinOffset: group, MaxOffset: group, MinType: kind, MaxType: kind}
		if err := s.Search(d.File(), read); err != nil {
			return q, false, err
		}
		if flags&(btrfsLimitRfer|btrfsLimitExcl) == 0 {
			return q, false, nil
		}
	}
	qgroupNow(d, group, &used)
	for i, flag := range []uint64{btrfsLimitRfer, btrfsLimitExcl} {
		if flags&flag == 0 {
			continue
		}
		limit := int64(min(most[i], 1<<62))                 // #nosec G115 -- below 2^63
		left := limit - int64(min(used[i], most[i], 1<<62)) // #nosec G115 -- the same
		if !limited || left < q.left {
			q, limited = quota{group, limit, left}, true
		}
	}
	return q, limited, nil
}

// qgroupNow makes used what sysfs says, if it says all of it.
func qgroupNow(d *dirfs.Dir, group uint64, used *[2]uint64) {
	var info [1024]byte // struct btrfs_ioctl_fs_info_args: max_id, num_devices, fsid, …
	if sys.Ioctl(d.File(), btrfsIocFsInfo, unsafe.Pointer(&info)) != nil {
		return
	}
	dir := fmt.Sprintf("/sys/fs/btrfs/%s/qgroups/%d_%d/", uuids.UUID(info[16:32]), group>>48, group&(1<<48-1))
	var n [5]uint64
	for i, name := range []string{"referenced", "exclusive", "rsv_data", "rsv_meta_pertrans", "rsv_meta_prealloc"} {
		data, err := os.ReadFile(dir + name) // #nosec G304 -- of sysfs
		if err == nil {
			n[i], err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		}
		if err != nil {
			return
		}
	}
	promised := n[2] + n[3] + n[4]
	*used = [2]uint64{n[0] + promised, n[1] + promised}
}
