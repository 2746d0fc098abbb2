package main

import (
	_ "embed"
	"html/template"
	"time"
)

//go:embed page.html
var pageText string

// page is the report as one self-contained file.
var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"date": func(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") },
}).Parse(pageText))
