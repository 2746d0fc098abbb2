package scripts

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"reflinksr/internal/smapiv1/xmlrpc"
	"reflinksr/scripts/xapi"
)

// smToday makes a command of the form of today, COMMAND [VDI] ARGUMENT..., and does with the answer what xapi does
// (ocaml/xapi/storage_smapiv1.ml): it looks into its database for what the driver should have told it.
func (s *script) smToday(not bool, words []string) error {
	h := s.smhost
	command, args := words[0], words[1:]
	request := xmlrpc.Struct{"command": command, "host_ref": xapi.Host, "session_ref": xapi.Session, "sr_ref": h.sr, "sr_uuid": s.ts.Getenv("SR_UUID"), "subtask_of": "OpaqueRef:task"}
	conf := xmlrpc.Struct{"SRmaster": "true"}
	for key, value := range h.conf {
		conf[key] = value
	}
	if h.texts["master"] == "false" {
		conf["SRmaster"] = "false"
	}
	request["device_config"] = conf
	switch {
	case command == "sr_get_driver_info":
		request = xmlrpc.Struct{"command": command, "host_ref": xapi.Host, "device_config": xmlrpc.Struct{}}
	case command == "sr_probe":
		delete(request, "sr_ref")
		delete(request, "sr_uuid")
		request["sr_sm_config"] = xmlrpc.Struct{}
	case command == "vdi_create":
		request["vdi_type"], request["vdi_sm_config"] = "user", xmlrpc.Struct{}
		if kind := h.texts["type"]; kind != "" {
			request["vdi_type"] = kind
		}
		if uuid := h.texts["uuid"]; uuid != "" {
			request["vdi_uuid"] = uuid
		}
		name := "disk"
		if len(args) > 1 {
			name, args = args[1], args[:1]
		}
		args = append(args, name, "of a scenario", "OpaqueRef:NULL", "false", "19700101T00:00:00Z", "", "false")
	case strings.HasPrefix(command, "vdi_"):
		if len(args) == 0 {
			return usage("sm")
		}
		ref, _ := h.xapi.VDI(args[0])
		request["vdi_ref"], request["vdi_uuid"], request["vdi_location"], request["vdi_on_boot"], request["vdi_allow_caching"] = ref, args[0], args[0], "persist", "false"
		if on := h.texts["on_boot"]; on != "" {
			request["vdi_on_boot"] = on
		}
		if uuid := h.texts["new_uuid"]; uuid != "" {
			request["new_uuid"] = uuid
		}
		args = args[1:]
	}
	if h.texts["session"] == "none" {
		delete(request, "session_ref")
	}
	if uuid, is := h.texts["sr"]; is {
		request["sr_uuid"] = uuid
	}
	if slices.Contains([]string{"vdi_compose", "vdi_revert", "vdi_list_changed_blocks"}, command) && len(args) > 0 {
		if ref, row := h.xapi.VDI(args[0]); row != nil {
			args[0] = ref
		}
	}
	request["args"] = args
	value, err := s.smAnswer(not, "ReflinkSR", string(xmlrpc.Request(command, request)))
	if err != nil || not {
		return err
	}
	return s.smTake(command, args, value)
}

// smTake does with an answer what xapi does.
func (s *script) smTake(command string, args []string, value any) error {
	h := s.smhost
	answer, _ := value.(xmlrpc.Struct)
	switch command {
	case "sr_get_driver_info":
		return driverInfo(answer)
	case "vdi_create", "vdi_introduce", "vdi_resize", "vdi_resize_online", "vdi_clone", "vdi_snapshot":
		uuid, is := answer["uuid"].(string)
		if !is || answer["location"] != uuid {
			return fmt.Errorf("the answer is no disk whose location is its UUID: %v", value)
		}
		ref, row := h.xapi.VDI(uuid)
		if row == nil && h.texts["session"] != "none" {
			return fmt.Errorf("the driver has not told the database of the new disk %s", uuid)
		}
		s.setenv("VDI", uuid)
		if strings.HasPrefix(command, "vdi_resize") {
			want, _ := strconv.ParseInt(args[0], 10, 64)
			if size, _ := strconv.ParseInt(row["virtual_size"].(string), 10, 64); size < want {
				return fmt.Errorf("the database still has %d bytes as the size of %s", size, uuid)
			}
		}
		if command == "vdi_clone" || command == "vdi_snapshot" {
			h.xapi.Set(ref, "name_label", command+" of a scenario")
			return s.smToday(false, []string{"vdi_update", uuid})
		}
		return nil
	case "vdi_attach", "vdi_attach_from_config":
		params, is := answer["params"].(string)
		if _, nbd := answer["params_nbd"].(string); !is || params == "" || nbd != (command == "vdi_attach") {
			return fmt.Errorf("the answer is no block device: %v", value)
		}
		if _, is := answer["o_direct"].(bool); !is {
			return fmt.Errorf("o_direct is missing: %v", value)
		}
		s.setenv("DEV", params)
		return nil
	case "sr_update":
		if row := h.xapi.SR(h.sr); row["physical_size"] == "0" {
			return errors.New("the database still has 0 as the SR's size")
		}
	case "sr_probe", "sr_content_type", "vdi_list_changed_blocks":
		if _, is := value.(string); !is {
			return fmt.Errorf("the answer is no string: %v", value)
		}
		return nil
	case "vdi_generate_config":
		text, _ := value.(string)
		if method, _, err := xmlrpc.ParseRequest([]byte(text)); err != nil || method != "vdi_attach_from_config" {
			return fmt.Errorf("the answer is no request to attach a disk: %v, %v", value, err)
		}
		return nil
	}
	if value != nil {
		return fmt.Errorf("it answers %v, and should nothing", value)
	}
	return nil
}

// driverInfo is what xapi needs to know of a driver, of the types that it takes.
func driverInfo(answer xmlrpc.Struct) error {
	for _, name := range []string{"name", "description", "vendor", "copyright", "driver_version", "required_api_version"} {
		if text, is := answer[name].(string); !is || text == "" {
			return fmt.Errorf("%s is missing: %v", name, answer)
		}
	}
	capabilities, _ := answer["capabilities"].([]any)
	configuration, _ := answer["configuration"].([]any)
	if len(capabilities) == 0 || len(configuration) == 0 {
		return fmt.Errorf("capabilities or configuration are missing: %v", answer)
	}
	return nil
}

// elementAt is the text of an element of a document: ROOT/CHILD, or vdi:UUID/CHILD of the child vdi of the root with that uuid.
func elementAt(data []byte, path string) (string, error) {
	type node struct {
		XMLName  xml.Name
		Text     string `xml:",chardata"`
		Children []struct {
			XMLName  xml.Name
			Text     string `xml:",chardata"`
			Children []struct {
				XMLName xml.Name
				Text    string `xml:",chardata"`
			} `xml:",any"`
		} `xml:",any"`
	}
	var root node
	if err := xml.Unmarshal(data, &root); err != nil {
		return "", fmt.Errorf("the answer is no XML: %w: %q", err, data)
	}
	first, child, _ := strings.Cut(path, "/")
	if uuid, is := strings.CutPrefix(first, "vdi:"); is {
		for _, vdi := range root.Children {
			found, ours := "", false
			for _, c := range vdi.Children {
				ours = ours || c.XMLName.Local == "uuid" && strings.TrimSpace(c.Text) == uuid
				if c.XMLName.Local == child {
					found = strings.TrimSpace(c.Text)
				}
			}
			if ours && vdi.XMLName.Local == "vdi" {
				return found, nil
			}
		}
		return "", fmt.Errorf("there is no vdi with the uuid %s", uuid)
	}
	if root.XMLName.Local == first {
		for _, c := range root.Children {
			if c.XMLName.Local == child {
				return strings.TrimSpace(c.Text), nil
			}
		}
	}
	return "", fmt.Errorf("there is no %s in %q", path, data)
}
