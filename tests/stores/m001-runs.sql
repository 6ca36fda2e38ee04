BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'line-runs','m001_runs_units_steps_events','2026-11-24 13:06:43.574587+00:00');
CREATE TABLE "events" (
   "id" INTEGER PRIMARY KEY,
   "run" TEXT NOT NULL REFERENCES "runs"("id"),
   "unit" INTEGER,
   "kind" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "detail" TEXT
);
INSERT INTO "events" VALUES(1,'model-head-1',NULL,'work',1.79552560366546082497e+09,'{"process": 31020}');
INSERT INTO "events" VALUES(2,'model-head-1',0,'unit finished',1.79552560383722472191e+09,'{}');
INSERT INTO "events" VALUES(3,'model-head-1',NULL,'finished',1.7955256038374986648e+09,'{}');
INSERT INTO "events" VALUES(4,'model-head-2',NULL,'work',1.79552560569082856178e+09,'{"process": 31097}');
INSERT INTO "events" VALUES(5,'model-head-2',0,'unit finished',1.79552560581787633894e+09,'{}');
CREATE TABLE "runs" (
   "id" TEXT PRIMARY KEY NOT NULL,
   "model" TEXT NOT NULL,
   "layer" TEXT NOT NULL,
   "seed" INTEGER NOT NULL,
   "status" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "finished" REAL,
   "command" TEXT,
   "settings" TEXT,
   "fingerprints" TEXT,
   "versions" TEXT,
   "error" TEXT
);
INSERT INTO "runs" VALUES('model-head-1','scripted:model','head',0,'finished',1.79552560360956931116e+09,1.79552560383733701707e+09,'line explain','{"seed": 0, "iterations": 2, "summary": true, "images": 2, "top": 1, "random": 1, "scorer": "mean", "modifiers": "per-image", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "llm": "embedded", "temperature": 0.5, "top_p": 0.9, "retries": 3, "hotter": 0.2, "duplicates": "refuse", "hints": 12, "generator": "bank", "threshold": null, "control": "bank", "control_images": 4, "vocabulary_share": 0.3333333333333333, "exclude": [], "exclude_for": {}, "weights": null, "pooling": "mean", "tokens": "cls", "device": "auto", "batch_size": null, "download": false}','{"target": "scripted target", "generator": "scripted generator", "language_model": "scripted model", "control": "scripted control"}','{"line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}','');
INSERT INTO "runs" VALUES('model-head-2','scripted:model','head',0,'running',1.79552560567450976373e+09,NULL,'line explain','{"seed": 0, "iterations": 2, "summary": true, "images": 2, "top": 1, "random": 1, "scorer": "mean", "modifiers": "per-image", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "llm": "embedded", "temperature": 0.5, "top_p": 0.9, "retries": 3, "hotter": 0.2, "duplicates": "refuse", "hints": 12, "generator": "bank", "threshold": null, "control": "bank", "control_images": 4, "vocabulary_share": 0.3333333333333333, "exclude": [], "exclude_for": {}, "weights": null, "pooling": "mean", "tokens": "cls", "device": "auto", "batch_size": null, "download": false}','{"target": "scripted target", "generator": "scripted generator", "language_model": "scripted model", "control": "scripted control"}','{"line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}','');
CREATE TABLE "steps" (
   "run" TEXT REFERENCES "runs"("id"),
   "unit" INTEGER,
   "step" INTEGER,
   "attempt" INTEGER,
   "kind" TEXT NOT NULL,
   "outcome" TEXT NOT NULL,
   "concept" TEXT,
   "score" REAL,
   "reasoning" TEXT,
   "reply" TEXT,
   "origin" TEXT,
   "images" TEXT,
   "board" TEXT,
   "removed" TEXT,
   "seed" INTEGER,
   "temperature" REAL,
   "seconds" REAL,
   "detail" TEXT,
   "created" REAL,
   PRIMARY KEY ("run", "unit", "step", "attempt")
);
INSERT INTO "steps" VALUES('model-head-1',0,0,0,'initial','scored','class e',9.90999996662139892578e-01,'','','predefined','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,'null',1.79552560375963401791e+09);
INSERT INTO "steps" VALUES('model-head-1',0,0,1,'initial','scored','class c',3.09999994933605194091e-02,'','','predefined','["a4d9100a9ef679542fc5f85fd16ff78666d54862951e90c3bcf1e9a63ceb1c4f", "7e742bdc0b04c6b9447151be80a7cb855c7a0db886123a7240e6cef14cdedc3b"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,'null',1.7955256037601621151e+09);
INSERT INTO "steps" VALUES('model-head-1',0,1,0,'iteration','scored','thing 401',6.30000010132789611816e-02,'because of thing 401','{"reasoning": "because of thing 401", "concept": "thing 401"}','proposed','["49fcb301383d7940c87ac4c286b8051b3835e1d7ad8f45037426cedf9a8c6826", "0462987e679e14a2481e965cd677dbdb0543d8a546d9398f6fadbe93b2ea38f4"]','[["class e", 0.9909999966621399], ["thing 401", 0.06300000101327896]]','class c',1162817401,0.5,1.13492999844311270862e-04,'null',1.79552560379452538492e+09);
INSERT INTO "steps" VALUES('model-head-1',0,2,0,'iteration','scored','thing 969',9.90999996662139892578e-01,'because of thing 969','{"reasoning": "because of thing 969", "concept": "thing 969"}','proposed','["446c5c25d71ab7b40a3e9106674e66913d37c076b1479b2e64aa88a913633722", "542e3db3584448a28715975a57d5fb5d5b05d0c625f6b83b460104523f6a5b14"]','[["class e", 0.9909999966621399], ["thing 969", 0.9909999966621399]]','thing 401',1804893969,0.5,4.80759999845759e-05,'null',1.79552560381100893022e+09);
INSERT INTO "steps" VALUES('model-head-1',0,3,0,'summary','scored','thing 731',3.54000002145767211914e-01,'because of thing 731','{"reasoning": "because of thing 731", "concept": "thing 731"}','summary','["07db41c030c1bad91e57b337bc4bc3b7457768d6ca0bbe6557e1aae0e70a3f3d", "db8d4489c93d61e42442fa33dc6b2fda5e0bd14f0ac027b0cc7ff0425d8e59ed"]','[["thing 969", 0.9909999966621399], ["thing 731", 0.3540000021457672]]','class e',1927875731,0.5,3.53099999301775824278e-05,'null',1.79552560382937598229e+09);
INSERT INTO "steps" VALUES('model-head-2',0,0,0,'initial','scored','class e',9.90999996662139892578e-01,'','','predefined','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,'null',1.79552560571320080759e+09);
INSERT INTO "steps" VALUES('model-head-2',0,0,1,'initial','scored','class c',3.09999994933605194091e-02,'','','predefined','["a4d9100a9ef679542fc5f85fd16ff78666d54862951e90c3bcf1e9a63ceb1c4f", "7e742bdc0b04c6b9447151be80a7cb855c7a0db886123a7240e6cef14cdedc3b"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,'null',1795525605.71369);
INSERT INTO "steps" VALUES('model-head-2',0,1,0,'iteration','scored','thing 401',6.30000010132789611816e-02,'because of thing 401','{"reasoning": "because of thing 401", "concept": "thing 401"}','proposed','["49fcb301383d7940c87ac4c286b8051b3835e1d7ad8f45037426cedf9a8c6826", "0462987e679e14a2481e965cd677dbdb0543d8a546d9398f6fadbe93b2ea38f4"]','[["class e", 0.9909999966621399], ["thing 401", 0.06300000101327896]]','class c',1162817401,0.5,4.61790000372275244444e-05,'null',1.79552560574561452869e+09);
INSERT INTO "steps" VALUES('model-head-2',0,2,0,'iteration','scored','thing 969',9.90999996662139892578e-01,'because of thing 969','{"reasoning": "because of thing 969", "concept": "thing 969"}','proposed','["446c5c25d71ab7b40a3e9106674e66913d37c076b1479b2e64aa88a913633722", "542e3db3584448a28715975a57d5fb5d5b05d0c625f6b83b460104523f6a5b14"]','[["class e", 0.9909999966621399], ["thing 969", 0.9909999966621399]]','thing 401',1804893969,0.5,4.28170001214311923831e-05,'null',1.7955256057815105915e+09);
INSERT INTO "steps" VALUES('model-head-2',0,3,0,'summary','scored','thing 731',3.54000002145767211914e-01,'because of thing 731','{"reasoning": "because of thing 731", "concept": "thing 731"}','summary','["07db41c030c1bad91e57b337bc4bc3b7457768d6ca0bbe6557e1aae0e70a3f3d", "db8d4489c93d61e42442fa33dc6b2fda5e0bd14f0ac027b0cc7ff0425d8e59ed"]','[["thing 969", 0.9909999966621399], ["thing 731", 0.3540000021457672]]','class e',1927875731,0.5,4.55469998996704816818e-05,'null',1.79552560580948948861e+09);
INSERT INTO "steps" VALUES('model-head-2',1,0,0,'initial','scored','class e',1.99100005626678466796e+00,'','','predefined','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','[["class e", 1.9910000562667847], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,'null',1795525605.82419);
INSERT INTO "steps" VALUES('model-head-2',1,0,1,'initial','scored','class a',1.01699995994567871093e+00,'','','predefined','["0a5d0ca01bd4dd07fc1ba1a83474a0a33ff0c3a4fd7bf816c3128c92f45e7d7a", "d9fbfa631e25fd49a0b32e4fd9d5a9530d65c7c3b1cfa36054b406ddefdfbfa6"]','[["class e", 1.9910000562667847], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,'null',1795525605.82453);
INSERT INTO "steps" VALUES('model-head-2',1,1,0,'iteration','scored','thing 400',1.73800003528594970703e+00,'because of thing 400','{"reasoning": "because of thing 400", "concept": "thing 400"}','proposed','["26f725fcfe152e8fe96d958d2d20ef0e55fda75c6577083bbbdbad916e67038d", "ddebf636596a835e9a7974f4f8c05c40292fce04584f820ed6b44c66a04ddc71"]','[["class e", 1.9910000562667847], ["thing 400", 1.7380000352859497]]','class a',846502400,0.5,3.98739998672681394964e-05,'null',1.79552560584203815463e+09);
CREATE TABLE "units" (
   "run" TEXT REFERENCES "runs"("id"),
   "unit" INTEGER,
   "position" INTEGER NOT NULL,
   "name" TEXT,
   "status" TEXT NOT NULL,
   "label" TEXT,
   "score" REAL,
   "origin" TEXT,
   "label_step" INTEGER,
   "discovered" INTEGER,
   "initial_label" TEXT,
   "initial_score" REAL,
   "auc" REAL,
   "mad" REAL,
   "seconds" REAL,
   "error" TEXT,
   PRIMARY KEY ("run", "unit")
);
INSERT INTO "units" VALUES('model-head-1',0,0,NULL,'finished','class e',9.90999996662139892578e-01,'predefined',0,0,'class e',9.90999996662139892578e-01,9.5833333333333337034e-01,1.70128212351968866045e+00,1.70511887999964528717e-01,'');
INSERT INTO "units" VALUES('model-head-2',0,0,NULL,'finished','class e',9.90999996662139892578e-01,'predefined',0,0,'class e',9.90999996662139892578e-01,9.5833333333333337034e-01,1.70128212351968866045e+00,1.25909286000023712404e-01,'');
INSERT INTO "units" VALUES('model-head-2',1,1,NULL,'running',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0.0,'');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX "idx_events_run_id"
    ON "events" ("run", "id");
COMMIT;
