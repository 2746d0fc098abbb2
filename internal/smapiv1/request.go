package smapiv1

import (
	"fmt"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapiv1/xmlrpc"
)

// Limit is how many bytes an argument may have.
const Limit = 1 << 20

// Request is what xapi asks of a driver. What is not said is empty.
type Request struct {
	Command      string
	Args         []string
	DeviceConfig map[string]string

	SessionRef string // of xapi; there is none for sr_get_driver_info, and where xapi does not run
	Task       string // of which the command is a part
	SRRef      string
	SRUUID     string
	Master     bool // this host is its pool's master

	VDIRef      string
	VDIUUID     string
	VDILocation string
	NewUUID     string // of vdi_introduce
	Type        string // of a new disk: user, system …
	SMConfig    map[string]string
	OnBoot      string // persist or reset
}

// ParseRequest reads one. What it does not know of it ignores.
func ParseRequest(argument string) (*Request, error) {
	if len(argument) > Limit {
		return nil, fault.Errorf(ErrBadRequest, "request", "the request has more than %d bytes", Limit)
	}
	method, params, err := xmlrpc.ParseRequest([]byte(argument))
	if err != nil {
		return nil, fault.Errorf(ErrBadRequest, "request", "the request is no methodCall: %w", err)
	}
	if len(params) != 1 {
		return nil, fault.Errorf(ErrBadRequest, "request", "the request has %d parameters, of 1", len(params))
	}
	members, is := params[0].(xmlrpc.Struct)
	if !is {
		return nil, fault.Errorf(ErrBadRequest, "request", "the request's parameter is no struct")
	}
	r := &Request{}
	for name, to := range map[string]*string{
		"command": &r.Command, "session_ref": &r.SessionRef, "subtask_of": &r.Task, "sr_ref": &r.SRRef, "sr_uuid": &r.SRUUID, "vdi_ref": &r.VDIRef,
		"vdi_uuid": &r.VDIUUID, "vdi_location": &r.VDILocation, "new_uuid": &r.NewUUID, "vdi_type": &r.Type, "vdi_on_boot": &r.OnBoot,
	} {
		if *to, err = text(members, name); err != nil {
			return nil, err
		}
	}
	if r.DeviceConfig, err = texts(members, "device_config"); err != nil {
		return nil, err
	}
	if r.SMConfig, err = texts(members, "vdi_sm_config"); err != nil {
		return nil, err
	}
	r.Master = r.DeviceConfig["SRmaster"] == "true"
	switch args := members["args"].(type) {
	case nil:
	case []any:
		for i, a := range args {
			s, is := a.(string)
			if !is {
				return nil, fault.Errorf(ErrBadRequest, "args", "argument %d is no string", i+1)
			}
			r.Args = append(r.Args, s)
		}
	default:
		return nil, fault.Errorf(ErrBadRequest, "args", "the arguments (args) are no array")
	}
	if r.Command == "" {
		r.Command = method
	}
	if r.Command != method {
		return nil, fault.Errorf(ErrBadRequest, "command", "the request is a %q for the command %q", fault.Shorten(method), fault.Shorten(r.Command))
	}
	return r, nil
}

func text(members xmlrpc.Struct, name string) (string, error) {
	switch v := members[name].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	default:
		return "", fault.Errorf(ErrBadRequest, name, "the member %s of the request is no string", name)
	}
}

func texts(members xmlrpc.Struct, name string) (map[string]string, error) {
	all := map[string]string{}
	switch v := members[name].(type) {
	case nil:
	case xmlrpc.Struct:
		for key, value := range v {
			s, is := value.(string)
			if !is {
				return nil, fault.Errorf(ErrBadRequest, name, "%q in %s is no string", fault.Shorten(key), name)
			}
			all[key] = s
		}
	default:
		return nil, fault.Errorf(ErrBadRequest, name, "the member %s of the request is no struct", name)
	}
	return all, nil
}

// Arg is the argument of that number, from 0, which must be there; what says what it is.
func (r *Request) Arg(i int, what string) (string, error) {
	if i >= len(r.Args) {
		return "", fault.Errorf(fault.ErrInvalid, what, "%s: argument %d, %s, is missing", r.Command, i+1, what)
	}
	return r.Args[i], nil
}

// Optional is the argument of that number, or "".
func (r *Request) Optional(i int) string {
	if i >= len(r.Args) {
		return ""
	}
	return r.Args[i]
}

// FromConfig is the request that a host makes of a disk where xapi does not run: to attach it, or to take it back.
func FromConfig(command, srUUID, vdiUUID string, config map[string]string) string {
	return string(xmlrpc.Request(command, xmlrpc.Struct{"command": command, "args": []string{}, "device_config": config, "sr_uuid": srUUID, "vdi_uuid": vdiUUID}))
}

// ParseSize reads a size in bytes.
func ParseSize(what, text string) (n int64, err error) {
	var rest string
	if k, _ := fmt.Sscanf(text+" .", "%d %s", &n, &rest); k != 2 || rest != "." || fmt.Sprint(n) != text {
		return 0, fault.Errorf(fault.ErrSize, "size", "%s is %q, it must be a number of bytes", what, fault.Shorten(text))
	}
	return n, nil
}
