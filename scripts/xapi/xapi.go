// Package xapi is a toolstack for tests of storage drivers: a database with the rows of SRs and disks, which it serves as xapi does on its
// socket, with its refusals.
package xapi

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reflinksr/internal/smapiv1/xmlrpc"
)

// Session is the session that drivers are given: others are refused.
const Session = "OpaqueRef:session"

// Host is the reference of this host.
const Host = "OpaqueRef:host"

const null = "OpaqueRef:NULL"

// Xapi is one with a database.
type Xapi struct {
	Socket string

	server *http.Server
	lock   sync.Mutex
	srs    map[string]xmlrpc.Struct // by reference
	vdis   map[string]xmlrpc.Struct
	made   int
	fail   map[string][]string // methods that are refused, with what is answered
	calls  []string            // that were made
}

// Start begins to answer at a socket.
func Start(socket string) (*Xapi, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	x := &Xapi{Socket: socket, srs: map[string]xmlrpc.Struct{}, vdis: map[string]xmlrpc.Struct{}, fail: map[string][]string{}}
	x.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(x.serve)}
	go x.server.Serve(l)
	return x, nil
}

// Stop ends it.
func (x *Xapi) Stop() { x.server.Close() }

// NewSR makes the row of an SR, and answers its reference.
func (x *Xapi) NewSR(uuid, name string) string {
	x.lock.Lock()
	defer x.lock.Unlock()
	for ref, row := range x.srs {
		if row["uuid"] == uuid {
			return ref
		}
	}
	ref := x.newRef()
	x.srs[ref] = xmlrpc.Struct{"uuid": uuid, "name_label": name, "name_description": "made by a scenario", "physical_size": "0", "physical_utilisation": "0", "virtual_allocation": "0"}
	return ref
}

// VDI is the row of a disk, by its UUID; nil if there is none.
func (x *Xapi) VDI(uuid string) (ref string, row xmlrpc.Struct) {
	x.lock.Lock()
	defer x.lock.Unlock()
	for ref, row := range x.vdis {
		if row["uuid"] == uuid {
			return ref, maps.Clone(row)
		}
	}
	return "", nil
}

// SR is the row of an SR, by its reference.
func (x *Xapi) SR(ref string) xmlrpc.Struct {
	x.lock.Lock()
	defer x.lock.Unlock()
	return maps.Clone(x.srs[ref])
}

// Set sets a field of a disk's row, as who administers the pool does; of a value nil the row goes.
func (x *Xapi) Set(ref, field string, value any) {
	x.lock.Lock()
	defer x.lock.Unlock()
	if value == nil {
		delete(x.vdis, ref)
	} else if row := x.vdis[ref]; row != nil {
		row[field] = value
	}
}

// VDIs are the UUIDs of the disks that an SR has rows of.
func (x *Xapi) VDIs(sr string) (uuids []string) {
	x.lock.Lock()
	defer x.lock.Unlock()
	for _, row := range x.vdis {
		if row["SR"] == sr {
			uuids = append(uuids, row["uuid"].(string))
		}
	}
	slices.Sort(uuids)
	return uuids
}

// Fail has a method be refused from now on: with nothing it no longer is.
func (x *Xapi) Fail(method string, with ...string) {
	x.lock.Lock()
	defer x.lock.Unlock()
	if x.fail[method] = with; len(with) == 0 {
		delete(x.fail, method)
	}
}

// Calls are the methods that were called since it was last asked.
func (x *Xapi) Calls() []string {
	x.lock.Lock()
	defer x.lock.Unlock()
	calls := x.calls
	x.calls = nil
	return calls
}

func (x *Xapi) newRef() string {
	x.made++
	return fmt.Sprintf("OpaqueRef:%08d-0000-4000-8000-000000000000", x.made)
}

func (x *Xapi) serve(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	method, params := "", []any(nil)
	if err == nil {
		method, params, err = xmlrpc.ParseRequest(data)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" {
		http.Error(w, fmt.Sprintf("not understood: %v", err), http.StatusBadRequest)
		return
	}
	x.lock.Lock()
	defer x.lock.Unlock()
	x.calls = append(x.calls, method)
	answer := xmlrpc.Struct{"Status": "Success"}
	value, err := x.answer(method, params)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		all := []any{}
		for _, word := range refused {
			all = append(all, word)
		}
		answer = xmlrpc.Struct{"Status": "Failure", "ErrorDescription": all}
	case value == nil:
		answer["Value"] = ""
	default:
		answer["Value"] = value
	}
	body := xmlrpc.Response(answer)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

// refusal is an error as xapi answers it.
type refusal []string

func (r refusal) Error() string { return strings.Join(r, " ") }

var (
	uuid  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	date  = regexp.MustCompile(`^[0-9]{8}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`)
	query = regexp.MustCompile(`^field "SR" = "([^"]+)"$`)
)

func (x *Xapi) answer(method string, params []any) (any, error) {
	if with := x.fail[method]; with != nil {
		return nil, refusal(with)
	}
	if len(params) == 0 || params[0] != Session {
		return nil, refusal{"SESSION_INVALID", fmt.Sprint(params)}
	}
	params = params[1:]
	if method == "VDI.db_introduce" {
		return x.introduce(params)
	}
	if method == "VDI.get_all_records_where" {
		return x.where(params)
	}
	if method == "VDI.get_by_uuid" {
		for ref, row := range x.vdis {
			if len(params) == 1 && row["uuid"] == params[0] {
				return ref, nil
			}
		}
		return nil, refusal{"UUID_INVALID", "VDI", fmt.Sprint(params)}
	}
	class, name, _ := strings.Cut(method, ".")
	table := map[string]map[string]xmlrpc.Struct{"SR": x.srs, "VDI": x.vdis}[class]
	if table == nil || len(params) == 0 {
		return nil, refusal{"MESSAGE_METHOD_UNKNOWN", method}
	}
	ref, _ := params[0].(string)
	row := table[ref]
	if row == nil {
		return nil, refusal{"HANDLE_INVALID", class, ref}
	}
	return x.onRow(method, class, name, ref, row, params[1:])
}

func (x *Xapi) onRow(method, class, name, ref string, row xmlrpc.Struct, params []any) (any, error) {
	config, _ := row["sm_config"].(xmlrpc.Struct)
	switch {
	case method == "VDI.get_record" && len(params) == 0:
		return maps.Clone(row), nil
	case method == "VDI.db_forget" && len(params) == 0:
		delete(x.vdis, ref)
		return nil, nil
	case method == "VDI.add_to_sm_config" && len(params) == 2:
		key := fmt.Sprint(params[0])
		if _, there := config[key]; there {
			return nil, refusal{"MAP_DUPLICATE_KEY", class, "sm_config", ref, key}
		}
		config[key] = params[1]
		return nil, nil
	case method == "VDI.remove_from_sm_config" && len(params) == 1:
		delete(config, fmt.Sprint(params[0]))
		return nil, nil
	case strings.HasPrefix(name, "get_") && len(params) == 0:
		if value, there := row[strings.TrimPrefix(name, "get_")]; there {
			return value, nil
		}
	case strings.HasPrefix(name, "set_") && len(params) == 1:
		field := strings.TrimPrefix(name, "set_")
		was, there := row[field]
		if !there {
			break
		}
		if fmt.Sprintf("%T", was) != fmt.Sprintf("%T", params[0]) {
			return nil, refusal{"FIELD_TYPE_ERROR", field}
		}
		if _, isNumber := strconv.ParseInt(fmt.Sprint(was), 10, 64); isNumber == nil && (field == "virtual_size" || strings.HasPrefix(field, "physical_") || field == "virtual_allocation") {
			if _, err := strconv.ParseInt(fmt.Sprint(params[0]), 10, 64); err != nil {
				return nil, refusal{"FIELD_TYPE_ERROR", field}
			}
		}
		row[field] = params[0]
		return nil, nil
	}
	return nil, refusal{"MESSAGE_METHOD_UNKNOWN", method}
}

func (x *Xapi) where(params []any) (any, error) {
	text, _ := params[0].(string)
	match := query.FindStringSubmatch(text)
	if len(params) != 1 || match == nil {
		return nil, refusal{"INTERNAL_ERROR", "a query that is none: " + text}
	}
	rows := xmlrpc.Struct{}
	for ref, row := range x.vdis {
		if row["SR"] == match[1] {
			rows[ref] = maps.Clone(row)
		}
	}
	return rows, nil
}

// introduced are the fields that VDI.db_introduce takes, in their order, each with a value of its type.
var introduced = []struct {
	name string
	like any
}{
	{"uuid", ""}, {"name_label", ""}, {"name_description", ""}, {"SR", ""}, {"type", ""}, {"sharable", true}, {"read_only", true}, {"other_config", xmlrpc.Struct{}},
	{"location", ""}, {"xenstore_data", xmlrpc.Struct{}}, {"sm_config", xmlrpc.Struct{}}, {"managed", true}, {"virtual_size", ""}, {"physical_utilisation", ""},
	{"metadata_of_pool", ""}, {"is_a_snapshot", true}, {"snapshot_time", ""}, {"snapshot_of", ""}, {"cbt_enabled", true},
}

func (x *Xapi) introduce(params []any) (any, error) {
	if len(params) != len(introduced) {
		return nil, refusal{"MESSAGE_PARAMETER_COUNT_MISMATCH", "VDI.db_introduce", fmt.Sprint(len(introduced)), fmt.Sprint(len(params))}
	}
	row := xmlrpc.Struct{}
	for i, field := range introduced {
		if fmt.Sprintf("%T", params[i]) != fmt.Sprintf("%T", field.like) {
			return nil, refusal{"FIELD_TYPE_ERROR", field.name}
		}
		row[field.name] = params[i]
	}
	text := func(name string) string { return row[name].(string) }
	for _, size := range []string{"virtual_size", "physical_utilisation"} {
		if _, err := strconv.ParseInt(text(size), 10, 64); err != nil {
			return nil, refusal{"FIELD_TYPE_ERROR", size}
		}
	}
	switch {
	case !uuid.MatchString(text("uuid")):
		return nil, refusal{"UUID_INVALID", "VDI", text("uuid")}
	case !date.MatchString(text("snapshot_time")):
		return nil, refusal{"FIELD_TYPE_ERROR", "snapshot_time"}
	case x.srs[text("SR")] == nil:
		return nil, refusal{"HANDLE_INVALID", "SR", text("SR")}
	case text("snapshot_of") != null && x.vdis[text("snapshot_of")] == nil:
		return nil, refusal{"HANDLE_INVALID", "VDI", text("snapshot_of")}
	case !slices.Contains([]string{"user", "system", "ephemeral", "suspend", "crashdump", "ha_statefile", "metadata", "redo_log", "rrd", "pvs_cache", "cbt_metadata"}, text("type")):
		return nil, refusal{"FIELD_TYPE_ERROR", "type"}
	}
	for _, other := range x.vdis {
		if other["uuid"] == row["uuid"] {
			return nil, refusal{"INTERNAL_ERROR", "Db_exn.Uniqueness_constraint_violation(VDI, uuid)"}
		}
		if other["SR"] == row["SR"] && other["location"] == row["location"] {
			return nil, refusal{"LOCATION_NOT_UNIQUE", text("SR"), text("location")}
		}
	}
	ref := x.newRef()
	x.vdis[ref] = row
	return ref, nil
}
