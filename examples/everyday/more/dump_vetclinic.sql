-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)
-- Host: localhost    Database: vetclinic
-- ------------------------------------------------------
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET NAMES utf8mb4 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;

--
-- Table structure for table `owners`
--
DROP TABLE IF EXISTS `owners`;
CREATE TABLE `owners` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `name` varchar(80) NOT NULL,
  `phone` varchar(20) DEFAULT NULL,
  `reminder` enum('sms','mail','post','none') NOT NULL DEFAULT 'sms',
  `balance` decimal(8,2) NOT NULL DEFAULT 0.00 COMMENT 'negative: the owner owes us',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=519 DEFAULT CHARSET=utf8mb4;

LOCK TABLES `owners` WRITE;
INSERT INTO `owners` VALUES
(501,'Brigid Kavanagh','01632 960201','sms',0.00),
(502,'Tomas Rezek','01632 960255','mail',-84.50),
(507,'Hill Farm Ltd','01632 960310','post',-1240.00),
(511,'Yusuf Demir',NULL,'mail',15.00),
(518,'Ottilie Grant','01632 960388','none',0.00);
UNLOCK TABLES;

--
-- Table structure for table `animals`
--
DROP TABLE IF EXISTS `animals`;
CREATE TABLE `animals` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `owner_id` int(11) NOT NULL,
  `name` varchar(40) DEFAULT NULL,
  `species` varchar(20) NOT NULL,
  `born` date DEFAULT NULL,
  `chip` char(15) DEFAULT NULL COMMENT 'ISO 11784, without spaces',
  `alert` varchar(200) DEFAULT NULL COMMENT 'shown in red when the file is opened',
  PRIMARY KEY (`id`),
  UNIQUE KEY `chip` (`chip`),
  KEY `owner` (`owner_id`),
  CONSTRAINT `fk_owner` FOREIGN KEY (`owner_id`) REFERENCES `owners` (`id`) ON DELETE RESTRICT
) ENGINE=InnoDB AUTO_INCREMENT=1210 DEFAULT CHARSET=utf8mb4;

LOCK TABLES `animals` WRITE;
INSERT INTO `animals` VALUES
(1187,501,'Biscuit','dog','2019-05-02','981020004417730','Bites. Muzzle before touching the ears.'),
(1188,501,'Mog','cat','2014-11-20','981020004417755','Kidney disease, no meloxicam.'),
(1192,502,'Hugo','rabbit','2023-03-15',NULL,NULL),
(1201,507,NULL,'sheep',NULL,NULL,'Flock of 60, visits on Tuesdays only.'),
(1209,511,'Zeytin','cat','2025-08-01','981020009912034','Epileptic, phenobarbital twice daily.'),
(1210,518,'Admiral','parrot','1998-01-01',NULL,'Do not mention the other parrot.');
UNLOCK TABLES;

--
-- Table structure for table `visits`
--
DROP TABLE IF EXISTS `visits`;
CREATE TABLE `visits` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `animal_id` int(11) NOT NULL,
  `day` date NOT NULL,
  `vet` varchar(40) NOT NULL,
  `reason` varchar(200) DEFAULT NULL,
  `fee` decimal(7,2) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB;

LOCK TABLES `visits` WRITE;
INSERT INTO `visits` VALUES
(8810,1187,'2026-03-03','Dr Salter','Booster, weight 31.2 kg, ears inflamed again',62.00),
(8814,1192,'2026-03-04','Dr Quirke','Teeth overgrown, trimmed under sedation; again in 8 weeks',84.50),
(8821,1209,'2026-03-09','Dr Quirke','Seizure lasting 4 minutes, dose raised to 15 mg',48.00),
(8830,1201,'2026-03-10','Dr Salter','Foot rot, 14 ewes treated with oxytetracycline; no milk or meat for 28 days',1240.00),
(8833,1188,'2026-03-12','Dr Salter','Creatinine 2.9, stable; recheck in June',55.00);
UNLOCK TABLES;
-- Dump completed on 2026-03-13  2:00:04
