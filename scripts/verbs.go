package scripts

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

//go:generate go test . -run TestREADME -update

// verb is one word of the language.
type verb struct {
	name  string
	usage string
	about string
	// run executes it; not says that it was preceded by "!".
	run func(s *script, not bool, args []string) error
}

// groups are the whole language on top of testscript's own commands, by what verbs are for.
var groups []group

type group struct {
	name, about string
	verbs       []verb
}

// table are the verbs of all groups.
var table []verb

// init, because retry looks verbs up in table.
func init() {
	groups = []group{
		{"A place to work", "Make a filesystem, a block device, an SR.", []verb{
			{"fs", "fs [KIND [SIZE [NAME]]]", "make a filesystem (btrfs, xfs, btrfs-4k and xfs-4k on sectors of 4096 bytes, xfs-noreflink, ext4, tmpfs; by default the kind of this run, 1GiB) and mount it at $WORK/NAME; NAME in capitals (by default MNT) holds the path", (*script).fs},
			{"blockdevice", "blockdevice NAME SIZE [KIND] | blockdevice NAME again|gone|unmounted | blockdevice NAME of OTHER", "make a block device: a loop device of a file, blank, or with a filesystem of that KIND (as of fs), or with a partition table (partitions); NAME in capitals is set to its path. again: its contents get a device of another name; gone: it is taken away; unmounted: wait until nobody has a filesystem of it mounted, in no mount namespace (NAME may be a path); of: another path to the disk OTHER", (*script).blockdevice},
			{"conf", "conf [NAME]", "prepare for a script that calls SR.create itself: NAME_PATH (NAME is SR by default) is an empty directory on the filesystem, NAME_UUID a UUID, NAME_CONF the run's configuration for an SR there", (*script).conf},
			{"sr", "sr [NAME] [KEY=VALUE]...", "make (after fs, if there is none yet) an SR with the run's configuration, that of conf, and those keys; attach it. NAME (by default SR) is set to its handle, NAME_PATH and NAME_UUID as by conf, NAME_CONF to what SR.create answered", (*script).sr},
			{"mounted", "[!] mounted UUID", "(own) the filesystem of the SR is mounted, once, where SR.attach mounts that of a device", (*script).mountedSR},
		}},
		{"Calls", "Ask the plugin as the toolstack does, and look at the answer.", []verb{
			{"call", "[!] call [PLUGIN/]METHOD [JSON]", "call the plugin as the toolstack does: one process, --json, arguments on standard input. $NAME in the JSON is replaced, inside strings as text, outside as it is; dbg is added. The answer must be of the interface's type. ! expects a refusal, after which the SR must be as before. A call that the plugin does not offer ends the scenario as skipped", (*script).call},
			{"volume", "volume NAME SIZE [ARG=VALUE]...", "make a volume with one call of Volume.create, as call does, and set NAME to its key. ARG is sr (by default $SR), name (disk), description (none) or sharable (false)", (*script).volume},
			{"needs", "needs METHOD...", "programs of the scenario (exec) make these calls: where one is not offered, the scenario ends as skipped", (*script).needs},
			{"get", "get NAME PATH", "set the variable NAME to a field of the last answer: .key, .uri[0], . for all of it, or '.[#]' (in quotes: # begins a comment) for how many", (*script).get},
			{"answer", "[!] answer PATH VALUE", "the field of the last answer is VALUE: a string's text, else its JSON", (*script).answer},
			{"refused", "refused CODE [TEXT]...", "the last call was refused with this code: the name of an error of the interface, which must be about the first TEXT, or the number n of SR_BACKEND_FAILURE_n; its parameters or its backtrace contain each TEXT", (*script).refused},
		}},
		{"Guests", "Give a disk to a guest, look at its device, take it back.", []verb{
			{"plug", "[!] plug VOLUME [ro] [domain=D]", "give a domain (1) the disk as the toolstack does: Volume.stat, Datapath.attach, activate (or activate_readonly); sets DEV", (*script).plug},
			{"unplug", "unplug VOLUME [domain=D]", "take it back: Datapath.deactivate, detach", (*script).unplug},
			{"device", "device VOLUME PROPERTY=VALUE...", "properties of the plugged disk's block device: size, sector, ro; dio: direct I/O of a loop device", (*script).device},
			{"guest", "[!] guest VOLUME COMMAND [ARG]...", "run a command with DEV replaced by the plugged disk's device", (*script).guest},
			{"domain", "[!] domain start NAME pv|pvh [VOLUME [ro]]... | plug NAME VOLUME [ro] | unplug NAME VOLUME | detach NAME VOLUME | run NAME COMMAND [ARG]... | writer NAME VOLUME | mark NAME VOLUME | snapshot NAME VOLUME | sectors NAME VOLUME N | stop NAME | kill NAME", "on a Xen host: boot a guest with disks; give it one more (sets DEV to what the guest calls it); take one back; make the calls for that though the guest still has it; have the guest carry out a command, or write to a disk as the writer verb does (a process whose number is in /writers); mark what it has had acknowledged; mark, and take a snapshot (sets SNAP); xen-blkback tells the guest that a disk has N sectors; end the guest and take its disks back", (*script).domainVerb},
		}},
		{"Contents", "Write to disks, remember what they hold, compare.", []verb{
			{"fill", "fill VOLUME OFFSET LENGTH SEED", "write LENGTH bytes that depend on SEED through the disk's device, and flush", (*script).fill},
			{"scatter", "scatter VOLUME OFFSET N SEED", "write N pieces of 4 KiB that depend on SEED through the disk's device, every second one from OFFSET on, so that its data lies in as many places, and flush", (*script).scatter},
			{"zero", "[!] zero VOLUME OFFSET LENGTH", "these bytes of the disk read as zero", (*script).zero},
			{"sum", "sum VOLUME", "remember what the disk holds, read through its device", (*script).sum},
			{"same", "same VOLUME [OTHER]", "the disk holds what it held at the last sum of it (and zeros after that if it has grown), or exactly what OTHER holds", (*script).same},
			{"differs", "differs VOLUME [OTHER]", "it does not", (*script).differs},
			{"writer", "writer start|stop|mark VOLUME | writer check SNAPSHOT VOLUME | writer check each", "write to the plugged disk in the background, each block acknowledged before the next; mark remembers what is acknowledged now; check: SNAPSHOT holds a prefix of the writes with everything up to the mark; check each: that holds for every snapshot that domain snapshot has taken", (*script).writer},
			{"changed", "changed [exactly] A B [offset=BYTES] [length=BYTES] [START+LENGTH]...", "Volume.list_changed_blocks reports every block of 64 KiB in which B holds something else than A (read now; of a volume without data what it held at its last sum), and all blocks of the ranges; exactly: no others than those", (*script).changed},
			{"compared", "compared [exactly] A B [START+LENGTH]...", "Volume.compare lists the blocks of the ranges; exactly: no others", (*script).compared},
		}},
		{"Migrations", "Do what moves a disk.", []verb{
			{"nbd", "[!] nbd connect NAME [ADDRESS] | nbd receive NAME SOCKET | nbd size NAME BYTES | nbd write NAME OFFSET LENGTH SEED | nbd zero|trim NAME OFFSET LENGTH | nbd flush|leave|ended NAME", "be a client of NBD called NAME. connect: to that address, or to what the Nbd implementation in the last answer has, Datapath.attach's, as the toolstack's proxy does; NAME_SOCKET in capitals is set to its socket. receive: hand one end of a connection to the socket that Datapath.import_activate answered, as the toolstack does, and speak as tapdisk on the other. The disk has so many bytes; write LENGTH bytes that depend on SEED; make zeros of them; say that nobody needs them; flush; take leave; wait until the server ends the connection", (*script).nbdPeer},
			{"mirrored", "[!] mirrored OPERATION", "ask Data.stat of what Data.mirror answered, again and again as the toolstack does, until it is complete; !: until it has failed", (*script).mirrored},
		}},
		{"Backups", "Take them as the toolstack's clients do.", []verb{
			{"backup", "backup NAME SNAPSHOT [BASE]", "copy the snapshot into the file NAME, or, where that holds what BASE held, what changed since, as Xen Orchestra does: by Volume.list_changed_blocks, in blocks of 2 MiB, by NBD (nbdkit). It fails where a full backup would be made instead, or if the copy is not what the snapshot holds", (*script).backup},
		}},
		{"OpenNebula", "Call the drivers of OpenNebula, as its executives do.", []verb{
			{"cloud", "cloud [RELEASE]", "be an OpenNebula of that release (5.12.0, 6.4.0, 6.6.3, 6.8.0, 7.4.0, which is the default; on a filesystem, made if there is none yet): its calling convention, its file VERSION, and how it shows errors. FE is set to the front-end's name, LOCATION to where datastores are, SYSTEM to that of guests (100), IMAGES to that of images (101). Actions run as a user who is not root. oned says of guest N what the file vm.N has, of an image image.N, of a datastore datastore.N. Where the run has other hosts, HOST1 and HOST2 are their names, and ds and tm set SSH to how many connections they took", (*script).startCloud},
			{"ds", "[!] ds ACTION [KEY=VALUE]... [says=TEXT]", "have the datastore driver do an action about an image with these elements (ds.KEY: of the datastore; template.KEY: of its template; extra.KEY: of what comes with the action; raw=TEXT: that in place of the dump; raw=xN: N bytes). ANSWER is set to what it answers, SOURCE and FORMAT to its first word and the rest. ! expects a failure, whose message has TEXT", (*script).ds},
			{"tm", "[!] tm ACTION ARG... [stdin=FILE] [says=TEXT]", "have the transfer driver do a line of a transfer file, to which the driver's name is added; or, with stdin, as hypervisors' drivers have it done, with what the file holds on standard input", (*script).tm},
		}},
		{"SMAPIv1", "Call drivers of the toolstack's older interface for storage, as xapi does.", []verb{
			{"sm", "[!] sm COMMAND [VDI] [ARG]... [fault=N] [says=TEXT] [KEY=VALUE]... | [!] sm DRIVER COMMAND [ARG]... [status=ERRNO] [says=TEXT] [sr=UUID] | sm conf [KEY=VALUE]... | sm row UUID FIELD VALUE | sm rows [VDI]... | sm set VDI FIELD VALUE | sm set VDI gone | sm fail METHOD [CODE]... | sm has ELEMENT VALUE | sm raw FILE N [TEXT]", "be an xapi with an SR ($SR_UUID; its device configuration is location=$SR_PATH, or what conf says) and call the driver. COMMAND: in the form of today, with one request, of this VDI, with what its database has of it (type, on_boot, uuid, new_uuid, sr, master=false, session=none: other values); the answer must be of the command's type, and the database must know what it should: VDI is set to the disk that was made, DEV to the device. DRIVER (FileSR …): in the first form, with the device configuration, $SR_UUID and these arguments; DEV is set by vdi_attach. ! expects a fault of that number, or that exit status, whose text has TEXT; the SR must be as before. row: a field of the database's row of that disk, or of the SR; rows: of these disks it has rows; set: change a row, as an administrator does; fail: the database refuses that method with these words from now on, or, without, no longer. has: an element of the last answer: sr/label, vdi:UUID/size. raw: the driver gets the contents of that file as its argument, and answers that fault", (*script).sm},
		}},
		{"Space", "See what takes how much, and what is shared.", []verb{
			{"shared", "shared VOLUME SIZE", "(own) so many bytes of the volume's file are shared with others, by FIEMAP", (*script).shared},
			{"exclusive", "exclusive VOLUME SIZE", "(own) so many are not", (*script).exclusive},
			{"extents", "extents NAME VOLUME", "(own) set NAME to the number of extents of the volume's file", (*script).extents},
			{"free", "free NAME", "set NAME to the free bytes of the filesystem at $MNT once it has settled", (*script).free},
			{"within", "[!] within A B SIZE", "the numbers A and B differ by at most SIZE", (*script).within},
		}},
		{"Faults", "Have something go wrong around the calls that follow.", []verb{
			{"full", "full", "fill the filesystem at $MNT up with a file $MNT/ballast, and with small files after that", (*script).full},
			{"remount", "remount ro|rw", "make the filesystem at $MNT read-only, or writable again", (*script).remount},
			{"vanish", "vanish", "unmount the filesystem at $MNT under everybody's feet", (*script).vanish},
			{"return", "return", "mount it again", (*script).comeBack},
			{"inject", "inject ERRNO CALL[:FILE[=N,N...]]... | inject off", "in the calls that follow these system calls fail, like fsync or FICLONE: on every file of the scenario and loop device, or on FILE, there every one or only the Nth that a call of the plugin makes. FILE is a path in the SR at $SR_PATH (sr.json, $VOL.inf; . is its directory) or below its .reflinksr (lock, staging/$VOL), or a whole path (/dev/loop-control); * is anything but a slash, KEY any UUID. A rename is of what it makes, FICLONE of what gets the blocks. What is injected must come to pass before the next inject", (*script).inject},
			{"limit", "limit nofile N | limit off", "the calls that follow may have at most N file descriptors", (*script).limit},
			{"kernel", "kernel 4.19|current", "run the calls that follow as on Linux 4.19 (what is newer is answered as there), or as it is", (*script).kernel},
			{"lock", "lock VOLUME | lock free", "(own) hold the volume's lock as another process would, until lock free", (*script).lock},
		}},
		{"The end", "See that nothing is left; wait for it.", []verb{
			{"loops", "loops VOLUME N", "(own) N loop devices of this host have the volume's file behind them", (*script).loops},
			{"leak", "leak", "nothing is left: no loop device, no link to a disk's file, no server of a disk, no staged file, no lease, nothing of a volume that is no more, no space of destroyed data, nothing mounted for an SR that is not attached", (*script).leak},
			{"retry", "retry DURATION VERB [ARG]...", "repeat the verb until it succeeds, at most so long", (*script).retry},
		}},
	}
	for _, g := range groups {
		table = append(table, g.verbs...)
	}
}

func (v verb) command() func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, not bool, args []string) {
		s := ts.Value(stateKey{}).(*script)
		s.ts = ts
		if not && !strings.HasPrefix(v.usage, "[!]") {
			ts.Fatalf("! does not go with %s\nusage: %s", v.name, v.usage)
		}
		if err := s.config.stopped(); err != nil {
			ts.Fatalf("%v", err)
		}
		if i := slices.Index(args, ""); i >= 0 && !slices.Contains([]string{"answer", "refused", "call", "sm"}, v.name) {
			ts.Fatalf("%s: word %d is empty: is a variable not set?", v.name, i+1)
		}
		s.naming = slices.Contains([]string{"call", "volume", "plug", "unplug", "changed", "compared", "retry"}, v.name)
		err := v.run(s, not, args)
		s.naming = false
		var absent errNotOffered
		if errors.As(err, &absent) && s.t != nil && !s.config.Own {
			s.t.Skip(err)
		}
		if err != nil {
			ts.Fatalf("%s: %v", v.name, err)
		}
	}
}

// find finds a verb that goes with "!", if not.
func find(name string, not bool) (verb, error) {
	for _, v := range table {
		if v.name != name {
			continue
		}
		if not && !strings.HasPrefix(v.usage, "[!]") {
			return v, fmt.Errorf("! does not go with %s", name)
		}
		return v, nil
	}
	return verb{}, fmt.Errorf("there is no %q", name)
}

func usage(name string) error {
	for _, v := range table {
		if v.name == name {
			return fmt.Errorf("usage: %s", v.usage)
		}
	}
	return fmt.Errorf("no verb %s", name)
}
