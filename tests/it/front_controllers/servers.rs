//! Real web servers that hand requests to a PHP application's front controller.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::{Apache, Nginx, PhpFpm, package_root};

/// Where an application's front controller finds the route of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// In the path behind its script's name.
    PathInfo,
    /// In the query.
    Query,
    /// In the path, which the web server hands it for every path without a file.
    Rewrite,
}

/// One application behind two web servers.
pub(super) struct Site {
    nginx: Nginx,
    apache: Apache,
    _fpm: PhpFpm,
    _root: TempDir,
}

impl Site {
    pub(super) fn start(style: Style) -> Self {
        let (fpm, root) = (PhpFpm::start(2), document_root(style));
        let nginx = Nginx::start("", &nginx_locations(style, root.path(), &fpm.socket()));
        let apache = Apache::start(&apache_directives(style, root.path(), &fpm.socket()));
        Self { nginx, apache, _fpm: fpm, _root: root }
    }

    /// The two web servers.
    pub(super) fn servers(&self) -> [(&'static str, SocketAddr); 2] {
        [("nginx", self.nginx.address()), ("Apache", self.apache.address())]
    }
}

/// A document root that everyone can read, with the scripts that an application may begin with.
fn document_root(style: Style) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let (api, static_files) = (root.path().join("api"), root.path().join("static"));
    std::fs::create_dir(&api).unwrap();
    std::fs::create_dir(&static_files).unwrap();
    for folder in [root.path(), &api, &static_files] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let controller = package_root().join("tests/upstream/front_controller.php");
    let name = match style {
        Style::PathInfo => "path_info",
        Style::Query => "query",
        Style::Rewrite => "rewrite",
    };
    let script = format!("<?php require '{}'; answer('{name}');\n", controller.display());
    for file in ["index.php", "api.php", "api/index.php"] {
        std::fs::write(root.path().join(file), &script).unwrap();
    }
    root
}

/// As nginx is told to by the manuals of such applications. The unlock path itself is served by all of them.
fn nginx_locations(style: Style, root: &Path, fpm: &Path) -> String {
    let other = match style {
        Style::PathInfo | Style::Query => "index index.php;",
        Style::Rewrite => "try_files $uri /index.php?_url=$uri&$args;",
    };
    format!(
        "root {root};\n\
         location = /api/customer/unlock {{ rewrite ^ /api/index.php/customer/unlock?route=customer/unlock last; }}\n\
         location / {{ {other} }}\n\
         location ~ \\.php(/|$) {{\n\
         fastcgi_split_path_info ^(.+?\\.php)(/.*)$;\n\
         fastcgi_pass unix:{fpm};\n\
         fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n\
         fastcgi_param SCRIPT_NAME $fastcgi_script_name;\n\
         fastcgi_param PATH_INFO $fastcgi_path_info;\n\
         fastcgi_param QUERY_STRING $query_string;\n\
         fastcgi_param REQUEST_METHOD $request_method;\n\
         fastcgi_param REQUEST_URI $request_uri;\n\
         fastcgi_param CONTENT_LENGTH $content_length;\n\
         }}",
        root = root.display(),
        fpm = fpm.display(),
    )
}

/// As Apache is told to by the same manuals, and that it may take an encoded slash for one.
fn apache_directives(style: Style, root: &Path, fpm: &Path) -> String {
    let rewritten = match style {
        Style::PathInfo | Style::Query => "",
        Style::Rewrite => {
            "RewriteCond %{DOCUMENT_ROOT}%{REQUEST_URI} !-f\nRewriteRule ^(.*)$ /index.php?_url=$1 [QSA,L]\n"
        }
    };
    format!(
        "DocumentRoot {root}\n\
         AllowEncodedSlashes On\n\
         DirectoryIndex index.php\n\
         RewriteEngine On\n\
         RewriteRule ^/api/customer/unlock$ /api/index.php/customer/unlock?route=customer/unlock [L]\n\
         {rewritten}\
         <FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:{fpm}|fcgi://localhost\"\n</FilesMatch>",
        root = root.display(),
        fpm = fpm.display(),
    )
}
