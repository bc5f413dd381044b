package templates

//go:generate go tool templ generate -path . -lazy=false
