package smapiv1

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapiv1/xenapi"
	"reflinksr/internal/smapiv1/xmlrpc"
)

// The classes of failure that are this interface's alone.
var (
	// ErrBadRequest: what was asked cannot be read.
	ErrBadRequest = errors.New("bad request")
	// ErrUnimplemented: there is no such command, or not for this.
	ErrUnimplemented = errors.New("unimplemented")
	// ErrMissing: a key of the device configuration is missing; the item is its name.
	ErrMissing = errors.New("missing from the device configuration")
	// ErrLocked: somebody else has locked the disk, or has what a lock would have.
	ErrLocked = errors.New("not locked")
)

// code is what a class of failure is in either form: the number and the text of XE_SR_ERRORCODES, and an errno of the older form's.
type code struct {
	number int
	text   string
	errno  unix.Errno
}

var codes = map[error]code{
	ErrBadRequest:         {143, "Failed to parse the request", unix.EINVAL},
	ErrUnimplemented:      {38, "The requested method is not supported/implemented", unix.ENOSYS},
	ErrMissing:            {115, "Not all required parameters specified.", unix.EINVAL},
	ErrLocked:             {37, "The lock/unlock request failed", unix.ENOLCK},
	fault.ErrInvalid:      {1, "Invalid argument", unix.EINVAL},
	fault.ErrSize:         {79, "VDI Invalid size", unix.EINVAL},
	fault.ErrSRNotFound:   {47, "The SR is not available", unix.ENODEV},
	fault.ErrNotAttached:  {47, "The SR is not available", unix.ENODEV},
	fault.ErrUnavailable:  {47, "The SR is not available", unix.EIO},
	fault.ErrSRExists:     {42, "The SR already exists", unix.EEXIST},
	fault.ErrSRInUse:      {16, "The SR device is currently in use", unix.EBUSY},
	fault.ErrUnsuitable:   {61, "File SR creation error", unix.EINVAL},
	fault.ErrNotEmpty:     {39, "The SR is not empty", unix.EBUSY},
	fault.ErrVolumeExists: {43, "The VDI already exists", unix.EEXIST},
	// Not 144, which xapi knows by another name: of a disk that is gone it would tell neither what nor where.
	fault.ErrVolumeNotFound: {46, "The VDI is not available", unix.ENODEV},
	fault.ErrInUse:          {24, "The VDI is currently in use", unix.EBUSY},
	fault.ErrElsewhere:      {24, "The VDI is currently in use", unix.EBUSY},
	fault.ErrDamaged:        {65, "Failed to load VDI", unix.EIO},
	fault.ErrNewer:          {47, "The SR is not available", unix.EPERM},
	fault.ErrNoSpace:        {44, "There is insufficient space", unix.ENOSPC},
	fault.ErrReadOnly:       {47, "The SR is not available", unix.EPERM},
	fault.ErrBusy:           {37, "The lock/unlock request failed", unix.EBUSY},
	fault.ErrOtherFS:        {1, "Invalid argument", unix.EPERM},
	fault.ErrNoData:         {66, "Invalid VDI type", unix.EPERM},
	fault.ErrNoCBT:          {460, "Failed to calculate changed blocks for given VDIs.", unix.EPERM},
	fault.ErrUnrelated:      {460, "Failed to calculate changed blocks for given VDIs.", unix.EINVAL},
	fault.ErrNoExtents:      {38, "The requested method is not supported/implemented", unix.ENOSYS},
}

// missing are the codes of keys that have one of their own.
var missing = map[string]code{
	"device":     {90, "The request is missing the device parameter", unix.EINVAL},
	"location":   {94, "The request is missing the location parameter", unix.EINVAL},
	"serverpath": {101, "The request is missing the serverpath parameter", unix.EINVAL},
	"server":     {102, "The request is missing the server parameter", unix.EINVAL},
}

// failures are the codes of commands that failed for a reason which has none.
var failures = map[string]code{
	"sr_create":               {61, "File SR creation error", unix.EIO},
	"sr_delete":               {63, "File SR deletion error", unix.EIO},
	"sr_scan":                 {40, "The SR scan failed", unix.EIO},
	"vdi_create":              {78, "VDI Creation failed", unix.EIO},
	"vdi_delete":              {80, "Failed to mark VDI hidden", unix.EIO},
	"vdi_clone":               {81, "Failed to clone VDI", unix.EIO},
	"vdi_snapshot":            {82, "Failed to snapshot VDI", unix.EIO},
	"vdi_resize":              {110, "VDI resize failed", unix.EIO},
	"vdi_enable_cbt":          {457, "Unable to activate changed block tracking.", unix.EIO},
	"vdi_disable_cbt":         {458, "Unable to deactivate changed block tracking.", unix.EIO},
	"vdi_list_changed_blocks": {460, "Failed to calculate changed blocks for given VDIs.", unix.EIO},
}

func codeOf(command string, err error) code {
	var refused *xenapi.Failure
	var e *fault.Error
	class := fault.Classify(err)
	known, is := codes[class]
	switch {
	case class == ErrMissing && errors.As(err, &e) && missing[e.Item].number != 0:
		return missing[e.Item]
	case is:
		return known
	case errors.As(err, &refused):
		return code{153, "A Failure occurred accessing an API object", unix.EIO}
	case fault.IsIO(err):
		return code{200, "General IO error", unix.EIO}
	}
	if known, is = failures[command]; is {
		return known
	}
	return code{202, "General backend error", unix.EIO}
}

// FaultOf is how a command fails in the form of today.
func FaultOf(command string, err error) *xmlrpc.Fault {
	c := codeOf(command, err)
	return &xmlrpc.Fault{Code: c.number, Text: c.text + " [opterr=" + oneLine(fault.In(command, err).Error()) + "]"}
}

// StatusOf is the exit status by which a command fails in the older form.
func StatusOf(command string, err error) int {
	return int(codeOf(command, err).errno)
}

// LetterOf is what it says then on standard error.
func LetterOf(command string, err error) string { return oneLine(fault.In(command, err).Error()) }

// oneLine is a text that does nothing to a terminal or a log.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ReplaceAll(strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD")), "\n", "; "))
}
