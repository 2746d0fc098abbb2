// Package uuids says which texts are UUIDs as this project writes them: lower case, with hyphens.
package uuids
